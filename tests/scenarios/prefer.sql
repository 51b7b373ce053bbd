-- The preferred node's row stands, also where the other one wrote later; but what only the other one wrote crosses.

--- configuration
conflict = "prefer:a"
--- both
CREATE TABLE prefer (id bigint PRIMARY KEY, name varchar(60), quantity int);
INSERT INTO prefer VALUES (1, 'first', 5), (2, 'first', 5), (3, 'first', 5);
--- a
UPDATE prefer SET name = 'of a' WHERE id = 1;
DELETE FROM prefer WHERE id = 2;
--- b, later
UPDATE prefer SET name = 'of b', quantity = 6 WHERE id = 1;
UPDATE prefer SET name = 'of b' WHERE id = 2;
UPDATE prefer SET name = 'of b' WHERE id = 3;
--- rows
1 | of a | 5
3 | of b | 5
--- records
1 | prefer: a
2 | prefer: a
