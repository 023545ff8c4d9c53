"""Which control groups an agent makes for its kernels, on hosts of either version."""

import asyncio
from pathlib import Path

import pytest

from agents.process.cpu_groups import CpuGroups, find_cpu_groups

QUOTAS = [(1500, 150_000), (1, 1000)]
"""Thousandths of a processor, and microseconds of each tenth of a second; no kernel takes less than 1000."""


def host(tmp_path: Path, membership: str, **files: str) -> tuple[Path, Path]:
    """Its control groups, and the file that says to which of them we belong."""
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "self").write_text(membership)
    return tmp_path / "groups", tmp_path / "self"


@pytest.mark.parametrize(("cpu_millis", "quota"), QUOTAS)
def test_version_1_limits_in_a_group_below_the_agents_own(tmp_path: Path, cpu_millis: int, quota: int) -> None:
    mount, membership = host(tmp_path, "2:cpuset:/\n1:cpu,cpuacct:/own\n0::/\n", **{"cpu/own/cgroup.procs": ""})
    groups = find_cpu_groups(tmp_path, mount, membership)
    assert groups is not None
    group = groups.make("k-1", 2, cpu_millis)
    assert group is not None
    assert group.parent == mount / "cpu" / "own"
    assert (group / "cpu.cfs_quota_us").read_text() == str(quota)


@pytest.mark.parametrize(("cpu_millis", "quota"), QUOTAS)
def test_version_2_limits_in_a_group_beside_the_agent(tmp_path: Path, cpu_millis: int, quota: int) -> None:
    own = {
        "cgroup.controllers": "cpu",
        "a.service/cgroup.subtree_control": "",
        "a.service/refold-agent/cgroup.procs": "",
    }
    mount, membership = host(tmp_path, "0::/a.service\n", **own)
    groups = find_cpu_groups(tmp_path, mount, membership)
    assert groups is not None
    assert (mount / "a.service/refold-agent/cgroup.procs").read_text() == "0", "the agent has left the group above"
    assert (mount / "a.service/cgroup.subtree_control").read_text() == "+cpu"
    group = groups.make("k-1", 2, cpu_millis)
    assert group is not None
    assert group.parent == mount / "a.service"
    assert (group / "cpu.max").read_text() == f"{quota} 100000"


def test_an_agent_that_is_beside_its_kernels_already_stays_there(tmp_path: Path) -> None:
    own = {"cgroup.controllers": "cpu", "a.service/cgroup.subtree_control": "cpu"}
    mount, membership = host(tmp_path, "0::/a.service/refold-agent\n", **own)
    groups = find_cpu_groups(tmp_path, mount, membership)
    assert groups is not None
    group = groups.make("k-1", 1, 1000)
    assert group is not None
    assert group.parent == mount / "a.service"


@pytest.mark.parametrize("membership", ["", "0::/nowhere\n", "1:memory:/\n", "1:cpu:/nowhere/at/all\n"])
def test_a_host_that_lets_us_make_none_limits_nothing(tmp_path: Path, membership: str) -> None:
    assert find_cpu_groups(tmp_path, *host(tmp_path, membership)) is None


def test_agents_of_one_host_do_not_share_groups_and_no_share_needs_none(tmp_path: Path) -> None:
    mount, membership = host(tmp_path, "1:cpu:/\n", **{"cpu/cgroup.procs": ""})
    first, second = (find_cpu_groups(tmp_path / name, mount, membership) for name in ("a", "b"))
    assert first is not None
    assert second is not None
    assert first.make("k-1", 1, 0) is None
    assert first.make("k-1", 1, 1000) != second.make("k-1", 1, 1000)


async def test_a_group_in_which_somebody_is_still_dying_is_removed_a_moment_later(tmp_path: Path) -> None:
    groups = CpuGroups(tmp_path, "ours", is_version_2=False)
    dying = tmp_path / "ours-k1-1" / "somebody"  # a full folder cannot be removed, nor a group in use
    dying.parent.mkdir()
    dying.touch()
    asyncio.get_running_loop().call_later(0.05, dying.unlink)
    await groups.removed("k1", 1)
    assert not groups.is_there("k1", 1)
