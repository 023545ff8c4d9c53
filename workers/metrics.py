"""What a worker measures about itself."""

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

OUTCOMES = Counter("refold_commands_settled", "Commands that got their outcome.", ["context", "outcome"])
SETTLE_SECONDS = Histogram(
    "refold_settle_seconds",
    "From having read a batch of commands to its transaction being committed.",
    ["context"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)
SHARDS_OWNED = Gauge("refold_shards_owned", "Shards running in this worker.")
SHARD_ENDS = Counter("refold_shard_ends", "Shards that ended unexpectedly and were rebuilt or given up.", ["why"])


def count_outcomes(context: str, outcomes: Mapping[str, int]) -> None:
    for outcome, number in outcomes.items():
        if number:
            OUTCOMES.labels(context, outcome).inc(number)
