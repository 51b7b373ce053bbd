-- The later write of a row stands, whole; the other one is on record.

--- configuration
--- both
CREATE TABLE last_writer_wins (id bigint PRIMARY KEY, name varchar(60), quantity int);
INSERT INTO last_writer_wins VALUES (1, 'first', 5), (2, 'first', 5), (3, 'first', 5);
--- a
UPDATE last_writer_wins SET name = 'of a' WHERE id = 1;
UPDATE last_writer_wins SET name = 'of a' WHERE id = 2;
DELETE FROM last_writer_wins WHERE id = 3;
INSERT INTO last_writer_wins VALUES (4, 'of a', 1);
--- b, later
UPDATE last_writer_wins SET quantity = 7 WHERE id = 1;
DELETE FROM last_writer_wins WHERE id = 2;
UPDATE last_writer_wins SET name = 'of b' WHERE id = 3;
INSERT INTO last_writer_wins VALUES (4, 'of b', 2);
--- rows
1 | first | 7
3 | of b | 5
4 | of b | 2
--- records
1 | last_writer_wins: b
2 | last_writer_wins: b
3 | last_writer_wins: b
4 | last_writer_wins: b
