-- A column with a rule of its own is decided by itself, whatever becomes of the others.

--- configuration
conflict = "prefer:a"
columns = { note = "prefer:b", colour = "last_writer_wins" }
--- both
CREATE TABLE columns_by_rule (id bigint PRIMARY KEY, name varchar(60), note varchar(60), colour varchar(60));
INSERT INTO columns_by_rule VALUES (1, 'first', 'first', 'first');
--- a
UPDATE columns_by_rule SET name = 'of a', note = 'of a', colour = 'of a' WHERE id = 1;
--- b, later
UPDATE columns_by_rule SET name = 'of b', note = 'of b', colour = 'of b' WHERE id = 1;
--- rows
1 | of a | of b | of b
--- records
1 | prefer: a
