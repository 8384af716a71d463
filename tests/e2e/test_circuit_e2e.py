"""A slow chain is not a sick facilitator: settlements in doubt leave the circuit closed."""

import urllib.request

import pytest
from stage import Stage

pytestmark = pytest.mark.e2e

IN_A_ROW = 5
"""More than the default threshold, which this guardian has."""


@pytest.mark.parametrize("mode", ["hang", "page_504", "pending_500", "rs_500"])
def test_settlement_timeouts_in_a_row_leave_the_circuit_closed(impatient: Stage, mode: str) -> None:
    payers = [impatient.payer() for _ in range(IN_A_ROW)]
    impatient.facilitator.control(mode, times=IN_A_ROW, when="after")
    with impatient.blocks_held_back():
        for settling in [impatient.settling(impatient.signed(payer)) for payer in payers]:
            assert settling.result()["success"] is False
        for payer in payers:
            impatient.record(payer, tainted=True)
    sixth = impatient.payer()
    impatient.post("/settle", impatient.signed(sixth))
    impatient.record(sixth, money="confirmed", chain_proven=True)
    for payer in payers:
        impatient.record(payer, money="confirmed_late", chain_proven=True)
    with urllib.request.urlopen(impatient.guardian.ops_url + "/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    changes = [line for line in lines if line.startswith("guardian_circuit_changes")]
    assert [line for line in changes if 'state="open"' in line] == []
