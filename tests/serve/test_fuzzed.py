"""The API as its own description has it, under inputs made from that description."""

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.serve.conftest import HEADERS

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


# What is there, so that not all answers say that it is not.
THERE = {"feature": 4, "context": 0}


def statuses(operation, mode, path):
    """What an operation answers to what is made up for it, each answer being as described."""
    answered = set()
    cases = operation.as_strategy(generation_mode=mode, path_parameters=path)

    @settings(
        max_examples=8,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def check(case):
        reply = case.call(headers=HEADERS)
        case.validate_response(reply, checks=CHECKS)
        answered.add(reply.status_code)

    check()
    return answered


def test_answers_are_as_described(client):
    address = f"{client.base_url}/api/openapi.json"
    schema = schemathesis.openapi.from_url(address, headers=HEADERS)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 10
    for operation in operations:
        path = {parameter.name: THERE[parameter.name] for parameter in operation.path_parameters}
        right = statuses(operation, GenerationMode.POSITIVE, path or None)
        if operation.label.endswith("/label"):
            assert right == {409}  # the run has no model
        else:
            assert right & {200, 201, 202}, operation.label
        if path or operation.query or operation.body:
            wrong = statuses(operation, GenerationMode.NEGATIVE, None)
            assert wrong & {404, 422}, operation.label
