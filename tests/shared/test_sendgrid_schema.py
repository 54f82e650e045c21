"""Our requests against the description SendGrid publishes, which lies beside the checkout."""

from __future__ import annotations

import pytest

from newsletter.providers import Accepted
from newsletter.providers.sendgrid import SendGrid
from tests.standin import SCHEMA, StandIn
from tests.test_message import a_reader, an_envelope

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SCHEMA.exists(), reason="the published description is not beside the checkout"),
]


@pytest.mark.parametrize("sandbox", [False, True], ids=["real", "sandbox"])
def test_requests_fit_the_published_schema(sandbox: bool) -> None:
    """A full request, a test mail and a plain mail of the system are all valid."""
    full = an_envelope(*(a_reader(number) for number in range(1000)))
    test = an_envelope(is_test=True, reply_to=None)
    plain = an_envelope(
        a_reader(values={}, unsubscribe_url="", name=""), html="", text="Please confirm.", list_id=""
    )

    with StandIn(schema_check=True) as standin:
        sender = SendGrid("SG.any", host=standin.url, sandbox=sandbox)
        outcomes = [sender.submit(envelope) for envelope in (full, test, plain)]

    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert (len(standin.requests), standin.schema_errors) == (3, [])


def test_the_schema_does_look() -> None:
    """A request that breaks the description is noticed, so that silence means something."""
    with StandIn(schema_check=True) as standin:
        standin.see({"personalizations": [{}]})

    assert len(standin.schema_errors) == 2
