"""Scorers' own settings: what of them scores depend on, and how the run's settings have them."""

import pydantic
import pytest

from autointerp.config.scorer_settings import ScorerSettings
from autointerp.config.section import setting
from autointerp.config.settings import RunConfig, all_settings
from autointerp.scoring import SCORERS
from autointerp.scoring.scorers.simulation import SimulationSettings


@pytest.mark.parametrize("name", SCORERS)
def test_a_new_setting_that_changes_nothing_leaves_scores_as_they_were(name):
    kind = SCORERS[name].settings
    grown = pydantic.create_model(kind.__name__, __base__=kind, new=(int, 0))
    # As scores of the first version are known: by their windows alone.
    assert kind().identity() == grown().identity() == kind().windows
    assert grown(new=1).identity() == {"windows": kind().windows, "new": 1}


def test_what_is_known_otherwise_does_not_count():
    assert SimulationSettings(mode="json").identity() == 10

    class Mine(ScorerSettings):
        more: int = setting(3, "More.")

    assert Mine(more=3, windows=5).identity() == 5
    assert Mine(more=4).identity() == {"windows": 20, "more": 4}


def test_they_are_flat_in_the_run_s_settings_and_whole_in_their_own():
    config = RunConfig.model_validate({"simulation_mode": "json", "fade_texts": "3"})
    assert config.model_fields_set == {"simulation_mode", "fade_texts"}
    assert config.settings_of("simulation", SimulationSettings) == SimulationSettings(mode="json")
    assert config.value("fade_texts") == config.values()["fade_texts"] == 3
    assert config.value("fade_windows") == 20
    changed = config.model_copy(update={"simulation_mode": "auto"})
    assert changed.settings_of("simulation", SimulationSettings).mode == "auto"
    assert RunConfig.model_validate(config.model_dump(exclude_unset=True)) == config
    assert list(config.values()) == list(all_settings())


def test_wrong_ones_are_said_by_their_flat_names_beside_others():
    with pytest.raises(pydantic.ValidationError) as caught:
        RunConfig.model_validate({"fade_texts": 1, "seed": -1, "fade_factors": "0", "fade_no": 1})
    assert {error["loc"] for error in caught.value.errors()} == {
        *(("fade_texts",), ("seed",), ("fade_factors",), ("fade_no",)),
    }


def test_only_scorers_that_are_asked_for_bind_the_windows():
    asked = {"scorers": "detection", "detection_windows": 5, "score_windows": 5}
    assert RunConfig.model_validate(asked).scorer_names() == ["detection"]
    with pytest.raises(ValueError, match="fade_windows needs 20 activating windows"):
        RunConfig.model_validate(asked | {"scorers": "detection,fade"})
