-- Values that rows pass on to each other cross without a conflict. Two rows of which one side made each, and that cannot
-- both live, wait for a person.

--- configuration
--- both
CREATE TABLE unique_values (id bigint PRIMARY KEY, code varchar(20), CONSTRAINT unique_values_code UNIQUE (code));
INSERT INTO unique_values VALUES (1, 'one'), (2, 'two'), (3, 'three'), (4, 'four');
--- a
UPDATE unique_values SET code = 'for a moment' WHERE id = 1;
UPDATE unique_values SET code = 'one' WHERE id = 2;
UPDATE unique_values SET code = 'two' WHERE id = 1;
DELETE FROM unique_values WHERE id = 3;
INSERT INTO unique_values VALUES (5, 'three');
INSERT INTO unique_values VALUES (11, 'the same');
--- b, later
UPDATE unique_values SET code = 'quatre' WHERE id = 4;
INSERT INTO unique_values VALUES (6, 'four');
INSERT INTO unique_values VALUES (12, 'the same');
--- rows
1 | two
2 | one
4 | quatre
5 | three
6 | four
11 | the same
--- rows of b
1 | two
2 | one
4 | quatre
5 | three
6 | four
12 | the same
--- held
11 | row-refused
12 | row-refused
--- records
