-- What the shop has before there is a bridge. The server runs the files of this folder once, in this order, on an
-- empty data folder; 20-rights.sql is deploy/sql/postgres.sql.

CREATE TABLE customers (
    id bigint PRIMARY KEY,
    name varchar(200) NOT NULL,
    email varchar(200),
    city varchar(200)
);

CREATE TABLE items (
    id bigint PRIMARY KEY,
    name varchar(200) NOT NULL,
    quantity bigint NOT NULL,
    price numeric(10, 2) NOT NULL
);

-- The log has to hold the whole row as it was before a change: without it conflicts cannot be seen.
ALTER TABLE customers REPLICA IDENTITY FULL;
ALTER TABLE items REPLICA IDENTITY FULL;

INSERT INTO customers VALUES
    (1, 'Ada Lund', 'ada@example.org', 'Malmö'),
    (2, 'Bo Kral', NULL, 'Brno'),
    (3, 'Cleo Ruiz', 'cleo@example.org', 'Vigo');

INSERT INTO items VALUES
    (1, 'kettle', 40, 10.80),
    (2, 'lamp', 25, 20.35),
    (3, 'chair', 12, 26.00);
