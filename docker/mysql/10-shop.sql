-- What the stock has before there is a bridge: the same tables, empty. The server runs the files of this folder
-- once, in this order, on an empty data folder; 20-rights.sql is deploy/sql/mysql.sql.

-- Texts compare by bytes, as PostgreSQL's do: with a collation that takes a for A the two sides would differ about
-- which rows are equal.
CREATE TABLE customers (
    id bigint PRIMARY KEY,
    name varchar(200) NOT NULL,
    email varchar(200),
    city varchar(200)
) DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE items (
    id bigint PRIMARY KEY,
    name varchar(200) NOT NULL,
    quantity bigint NOT NULL,
    price decimal(10, 2) NOT NULL
) DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
