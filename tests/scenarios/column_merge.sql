-- Each column is that side's which changed it; where both did, the later change stands. A delete is decided as a row.

--- configuration
conflict = "column_merge"
--- both
CREATE TABLE column_merge (id bigint PRIMARY KEY, name varchar(60), colour varchar(60), quantity int);
INSERT INTO column_merge VALUES (1, 'first', 'first', 5), (2, 'first', 'first', 5), (3, 'first', 'first', 5);
--- a
UPDATE column_merge SET name = 'of a' WHERE id = 1;
UPDATE column_merge SET name = 'of a', colour = 'of a' WHERE id = 2;
UPDATE column_merge SET name = 'of a' WHERE id = 3;
--- b, later
UPDATE column_merge SET colour = 'of b' WHERE id = 1;
UPDATE column_merge SET name = 'of b', quantity = 6 WHERE id = 2;
DELETE FROM column_merge WHERE id = 3;
--- rows
1 | of a | of b | 5
2 | of b | of a | 6
--- records
1 | column_merge, last writer: b
2 | column_merge, last writer: b
3 | last_writer_wins: b
