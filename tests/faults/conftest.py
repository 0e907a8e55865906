"""The fork server, and the jobs that are killed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults import jobs
from tests.faults.runs import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A process whose children run command lines at once."""
    found = Server(tmp_path_factory.mktemp("runs"))
    yield found
    found.stop()


@pytest.fixture(scope="session")
def job(
    server: Server,
    clip_folder: Path,
    world: Path,
    vision_folder: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], jobs.Job]:
    """name -> the job, made when it is first asked for."""
    made: dict[str, jobs.Job] = {}

    def find(name: str) -> jobs.Job:
        if name not in made:
            base = tmp_path_factory.mktemp(f"job-{name}")
            made[name] = jobs.make(name, base, server, clip_folder, world, vision_folder)
        return made[name]

    return find
