-- The tables of format 1 as they are in databases out there: never changed.
CREATE SCHEMA pontoon;
CREATE TABLE pontoon.checkpoint (
    bridge text NOT NULL,
    applier integer NOT NULL,
    source text,
    position text,
    log text,
    sequence bigint NOT NULL DEFAULT 0,
    commit_time bigint,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bridge, applier)
) WITH (fillfactor = 30);
CREATE TABLE pontoon.resolution (
    bridge text NOT NULL,
    id bigint NOT NULL,
    group_id bigint NOT NULL,
    table_name text NOT NULL,
    row_key text NOT NULL,
    in_force boolean NOT NULL,
    own_fence text,
    other_fence text,
    own_row text,
    other_row text,
    verdict text,
    ancestor text,
    taken text,
    commit_time bigint NOT NULL,
    rule text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bridge, id)
);
CREATE INDEX resolution_in_force ON pontoon.resolution (bridge, table_name, row_key) WHERE in_force;
CREATE TABLE pontoon.quarantine (
    bridge text NOT NULL,
    id bigint NOT NULL,
    table_name text NOT NULL,
    row_key text NOT NULL,
    operation text NOT NULL,
    before_row text,
    after_row text,
    moved_key text,
    position text,
    source_transaction text,
    commit_time bigint NOT NULL,
    code text,
    message text,
    constraint_name text,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    request text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bridge, id)
);
CREATE INDEX quarantine_key ON pontoon.quarantine (bridge, table_name, left(row_key, 200));
CREATE TABLE pontoon.control (
    bridge text NOT NULL,
    name text NOT NULL,
    number bigint,
    value text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bridge, name)
) WITH (fillfactor = 30);
INSERT INTO pontoon.control (bridge, name, number) VALUES ('', 'format', 1);
