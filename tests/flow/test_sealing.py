"""What is kept of a signed request cannot be read, nor put under another record, by who has the store."""

import base64

import pytest

from guardian.errors import PolicyError
from guardian.flow.sealing import Sealing, sealing_from

KEY, OTHER = b"k" * 32, b"o" * 32
TEXT = b"PAYMENT-SIGNATURE: 0xabc"


def test_without_a_key_it_is_kept_as_it_is() -> None:
    sealed = Sealing().seal(TEXT, "record")
    assert TEXT in sealed
    assert Sealing([KEY]).open(sealed, "record") == TEXT


def test_with_a_key_it_can_be_read_with_that_key_alone() -> None:
    sealed = Sealing([KEY]).seal(TEXT, "record")
    assert TEXT not in sealed
    assert Sealing([KEY]).open(sealed, "record") == TEXT
    assert Sealing([OTHER]).open(sealed, "record") is None
    assert Sealing().open(sealed, "record") is None


def test_it_cannot_be_moved_to_another_record() -> None:
    assert Sealing([KEY]).open(Sealing([KEY]).seal(TEXT, "record"), "other") is None


def test_a_new_key_seals_and_the_old_ones_still_open() -> None:
    old = Sealing([KEY]).seal(TEXT, "record")
    both = Sealing([OTHER, KEY])
    assert both.open(old, "record") == TEXT
    assert Sealing([OTHER]).open(both.seal(TEXT, "record"), "record") == TEXT


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x01short", b"\x02what is this", b"\x01" + b"x" * 40])
def test_what_was_not_sealed_does_not_open(sealed: bytes) -> None:
    assert Sealing([KEY]).open(sealed, "record") is None


def test_the_environment_names_the_keys() -> None:
    named = ",".join(base64.b64encode(key).decode() for key in (OTHER, KEY))
    sealing = sealing_from({"GUARDIAN_RECORD_KEY": named})
    assert sealing.open(Sealing([KEY]).seal(TEXT, "record"), "record") == TEXT
    assert sealing_from({}).seal(TEXT, "record").endswith(TEXT)


def test_a_first_key_is_learnt_before_anybody_seals_with_it() -> None:
    named = base64.b64encode(KEY).decode()
    learning = sealing_from({"GUARDIAN_RECORD_KEY": f"plain,{named}"})
    assert Sealing().open(learning.seal(TEXT, "record"), "record") == TEXT
    assert learning.open(Sealing([KEY]).seal(TEXT, "record"), "record") == TEXT
    with pytest.raises(PolicyError):
        sealing_from({"GUARDIAN_RECORD_KEY": f"{named},plain"})


@pytest.mark.parametrize("named", ["short", base64.b64encode(b"x" * 31).decode(), "not base64 at all!"])
def test_a_key_that_is_none_is_refused_without_showing_it(named: str) -> None:
    with pytest.raises(PolicyError) as refused:
        sealing_from({"GUARDIAN_RECORD_KEY": named})
    assert named not in str(refused.value)
