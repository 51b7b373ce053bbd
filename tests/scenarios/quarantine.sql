-- Where both wrote a row, neither is touched until a person decides; what only one side wrote crosses, and so does what
-- was added. Where both came to the same row there is nothing to decide.

--- configuration
conflict = "quarantine"
columns = { quantity = "additive" }
--- both
CREATE TABLE quarantine (id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL);
INSERT INTO quarantine VALUES (1, 'first', 5), (2, 'first', 5), (3, 'first', 5), (4, 'first', 5), (5, 'first', 5);
--- a
UPDATE quarantine SET name = 'of a' WHERE id = 1;
DELETE FROM quarantine WHERE id = 2;
UPDATE quarantine SET name = 'of a' WHERE id = 3;
UPDATE quarantine SET quantity = quantity - 1 WHERE id = 4;
UPDATE quarantine SET name = 'the same' WHERE id = 5;
INSERT INTO quarantine VALUES (6, 'of a', 1);
--- b, later
UPDATE quarantine SET name = 'of b' WHERE id = 1;
UPDATE quarantine SET name = 'of b' WHERE id = 2;
UPDATE quarantine SET quantity = quantity - 1 WHERE id = 4;
UPDATE quarantine SET name = 'the same' WHERE id = 5;
INSERT INTO quarantine VALUES (6, 'of b', 2);
--- rows
1 | of a | 5
3 | of a | 5
4 | first | 3
5 | the same | 5
6 | of a | 1
--- rows of b
1 | of b | 5
2 | of b | 5
3 | of a | 5
4 | first | 3
5 | the same | 5
6 | of b | 2
--- held
1 | conflict-held
2 | conflict-held
6 | conflict-held
--- records
5 | equal
