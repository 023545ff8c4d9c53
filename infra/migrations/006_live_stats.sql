-- What agents measure: the latest of each kernel and agent, and a window of sums for those who ask for means. Not in the
-- log and not worth a disk's flush: after a crash of the server it is empty, and what is still there is measured anew.

CREATE UNLOGGED TABLE kernel_stats (
    kernel_id    text NOT NULL,
    agent_id     text NOT NULL,  -- who says so; whether the kernel is his is for the reader to see
    incarnation  bigint NOT NULL,
    at           timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    stats        jsonb NOT NULL,
    PRIMARY KEY (kernel_id, agent_id)
) WITH (fillfactor = 50);  -- each row is written again every few seconds: in its page, and no index has to know

CREATE UNLOGGED TABLE agent_stats (
    agent_id text PRIMARY KEY,
    at       timestamptz NOT NULL,
    stats    jsonb NOT NULL
) WITH (fillfactor = 50);

CREATE UNLOGGED TABLE kernel_use (
    kernel_id   text NOT NULL,
    agent_id    text NOT NULL,
    bucket      timestamptz NOT NULL,  -- when it begins
    incarnation bigint NOT NULL,
    samples     jsonb NOT NULL,        -- metric → how many
    sums        jsonb NOT NULL,        -- metric → their sum, in percent of what the kernel was given
    PRIMARY KEY (kernel_id, agent_id, bucket)
) WITH (fillfactor = 70);

CREATE INDEX kernel_use_by_age ON kernel_use (bucket);

CREATE UNLOGGED TABLE pull_progress (
    kernel_id   text NOT NULL,
    agent_id    text NOT NULL,
    incarnation bigint NOT NULL,
    at          timestamptz NOT NULL,
    done        bigint NOT NULL,
    total       bigint NOT NULL,  -- 0: not known yet
    PRIMARY KEY (kernel_id, agent_id)
);
