"""Labels that are rules."""

from autointerp.labeling.labeler import Draft
from autointerp.rules.lexical import NAME
from autointerp.rules.rules import Rule


def rule_draft(feature: int, rule: Rule) -> Draft:
    """The draft of a feature whose label is a rule."""
    return Draft(
        feature,
        "labeled",
        NAME,
        label=rule.phrase(),
        reason=rule.reason(),
        confidence=rule.confidence,
        rule=rule.to_json(),
    )
