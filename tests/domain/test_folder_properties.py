"""What holds of folders whatever is asked by whomever, and whatever overtakes what: one property a promise."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.domain.folder_world import FolderWorld

histories = st.lists(st.integers(0, 2**32), min_size=100, max_size=300)
"""Each is the seed of one step: lists of numbers are quickly made, and well shrunk."""

some = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
many = settings(some, max_examples=40)


def lived(seeds: list[int]) -> FolderWorld:
    """What became of a small world; it and its ledger complain themselves on the way."""
    world = FolderWorld()
    for seed in seeds:
        world.step(seed)
    return world


@some
@given(histories)
def test_nobody_has_more_than_he_was_granted_no_name_stands_for_two_and_nothing_mounted_is_purged(
    seeds: list[int],
) -> None:
    lived(seeds).end_all_sessions()


@many
@given(histories)
def test_every_process_between_owners_ends_without_ghosts_and_no_byte_is_lost_or_counted_twice(
    seeds: list[int],
) -> None:
    world = lived(seeds)
    world.settle()
    world.at_rest()
    world.end_all_sessions()
    world.at_rest()


@some
@given(histories, st.integers(1, 20))
def test_who_starts_again_from_the_log_goes_on_as_if_nothing_had_been(seeds: list[int], every: int) -> None:
    world, crashing = FolderWorld(), FolderWorld()
    for number, seed in enumerate(seeds):
        world.step(seed)
        crashing.step(seed)
        if number % every == 0:
            crashing.crash()
    assert crashing.history == world.history
