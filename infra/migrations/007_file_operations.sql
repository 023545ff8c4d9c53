-- What was changed in folders through storage services, for whoever looks after a folder. Told by the topic
-- `storage.audit`, decides nothing, and is kept for REFOLD_STORAGE_AUDIT_DAYS.

CREATE TABLE file_operations (
    operation_id uuid PRIMARY KEY,  -- of its record: one that is read twice is one
    at           timestamptz NOT NULL,
    scope        text NOT NULL,     -- whose folder it was
    folder_id    text NOT NULL,
    host         text NOT NULL,
    actor        text NOT NULL,
    operation    text NOT NULL,
    path         text NOT NULL,
    target       text,
    size_bytes   bigint
);

CREATE INDEX file_operations_of_folder ON file_operations (folder_id, at DESC, operation_id DESC);
CREATE INDEX file_operations_by_age ON file_operations (at);
