"""What holds of images and background tasks whatever happens to them, in whatever order: one property a promise."""

from collections import Counter

from hypothesis import given

from domain.directory.consequences import DIRECTORY
from domain.directory.messages import EVENTS
from domain.directory.messages.tasks import PartState, TaskEnded, TaskProgressed, TaskStarted
from domain.directory.state import Directory
from domain.placements import ImageOrder
from tests.domain.lives import IMAGE_KINDS, Life, choices, many

lives = choices.map(lambda seeds: Life(seeds, IMAGE_KINDS))


@many
@given(lives)
def test_an_alias_always_means_an_image_that_is_there(life: Life) -> None:
    meant = {(reference, each) for alias in life.state.aliases.values() for each, reference in alias.items()}
    assert meant <= set(life.state.images)
    assert all(life.state.aliases.values())


@many
@given(lives)
def test_no_image_outlives_its_registry(life: Life) -> None:
    assert {image.registry for image in life.state.images.values()} <= set(life.state.registries)
    assert "local" in life.state.registries


@many
@given(lives)
def test_who_has_which_image_is_known_from_both_sides(life: Life) -> None:
    state = life.state
    by_agent = {(agent_id, key) for agent_id, images in state.agent_images.items() for key in images}
    assert by_agent == {(agent_id, key) for key, agents in state.agents_by_image.items() for agent_id in agents}
    assert all(state.agents_by_image.values())


@many
@given(lives)
def test_for_which_architectures_an_image_is_there_is_known_from_both_sides(life: Life) -> None:
    state = life.state
    by_reference = state.architectures_by_image
    assert {(reference, each) for reference, found in by_reference.items() for each in found} == set(state.images)
    assert all(by_reference.values())


@many
@given(lives)
def test_every_task_has_exactly_one_end_and_nothing_is_said_of_it_after_that(life: Life) -> None:
    while life.ring():
        pass
    started = Counter(event.task_id for event in life.events if isinstance(event, TaskStarted))
    ended: Counter[str] = Counter()
    for event in life.events:
        match event:
            case TaskEnded():
                ended[event.task_id] += 1
            case TaskProgressed():
                assert event.task_id not in ended
                assert event.done <= event.total or event.total == 0
    assert started == ended
    assert max(ended.values(), default=1) == 1


@many
@given(lives)
def test_every_order_to_an_agent_has_exactly_one_end(life: Life) -> None:
    """Its agent said how it ended, or was told to stop, or is gone."""
    while life.ring():
        pass
    given = Counter((order.task_id, order.agent_id) for order in life.orders if isinstance(order, ImageOrder))
    stopped = Counter((order.task_id, order.agent_id) for order in life.orders if not isinstance(order, ImageOrder))
    reported = Counter(
        (event.task_id, event.agent_id)
        for event in life.events
        if isinstance(event, TaskProgressed) and event.agent_id and event.part is not PartState.GOING_ON
    )
    assert given == stopped + reported
    assert max(given.values(), default=1) == 1


@many
@given(lives)
def test_what_is_folded_again_from_the_log_is_the_same(life: Life) -> None:
    state = Directory()
    for event in life.events:
        state = DIRECTORY.evolve(state, EVENTS.validate_json(event.model_dump_json()))
    assert state == life.state
