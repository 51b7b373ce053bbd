-- A row that moves to another key stands or falls with it: if its move loses, its new key is gone.

--- configuration
--- both
CREATE TABLE moved_keys (id bigint PRIMARY KEY, name varchar(60));
INSERT INTO moved_keys VALUES (1, 'first'), (2, 'first');
--- a
UPDATE moved_keys SET id = 11 WHERE id = 1;
UPDATE moved_keys SET name = 'of a' WHERE id = 2;
--- b, later
UPDATE moved_keys SET name = 'of b' WHERE id = 1;
UPDATE moved_keys SET id = 12 WHERE id = 2;
--- rows
1 | of b
12 | first
--- records
1 | last_writer_wins: b
2 | last_writer_wins: b
11 | last_writer_wins: b
12 | last_writer_wins: b
