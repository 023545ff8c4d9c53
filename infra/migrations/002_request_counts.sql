-- How many requests each caller made in the last minutes, as all api processes counted them together. Not in the log and
-- not worth a disk's flush: after a crash of the server it is empty, and everybody begins anew.

CREATE SEQUENCE request_counts_exchanges;

CREATE UNLOGGED TABLE request_counts (
    who    text   NOT NULL,
    bucket bigint NOT NULL,  -- a stretch of time, numbered from 1970 on
    count  bigint NOT NULL,
    number bigint NOT NULL,  -- of the exchange that changed it last
    PRIMARY KEY (who, bucket)
);

CREATE INDEX request_counts_by_number ON request_counts (number);
