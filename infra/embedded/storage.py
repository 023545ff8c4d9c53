"""A storage service on this machine: where it listens, and its volumes, which the agent beside it has as well."""

from pathlib import Path
from typing import Any

from infra.embedded.folder import ports
from infra.settings import Settings


def own_storage(data_dir: Path, settings: Settings) -> dict[str, Any]:
    """Settings for it, and for those who use it: its volumes are the chosen ones, or one in the data folder."""
    name = settings.storage_name
    free = ports(data_dir, "storage", "storage-internal")
    volumes = {
        volume: place if "://" in place else str(Path(place).absolute())
        for volume, place in (settings.storage_volumes or {"volume1": str(data_dir / "volumes" / "volume1")}).items()
    }
    folders = {f"{name}:{volume}": place for volume, place in volumes.items() if "://" not in place}
    for folder in folders.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    chosen: dict[str, Any] = {
        "storage": {
            name: {
                "client": f"http://{settings.storage_host}:{free['storage']}",
                "internal": f"http://{settings.storage_internal_host}:{free['storage-internal']}",
            }
        },
        "storage_volumes": volumes,
        "storage_port": free["storage"],
        "storage_internal_port": free["storage-internal"],
        "vfolder_host": f"{name}:{next(iter(volumes))}",
        "agent_volumes": folders,
    }
    return chosen | {
        kept: getattr(settings, kept) for kept in ("vfolder_host", "agent_volumes") if kept in settings.model_fields_set
    }
