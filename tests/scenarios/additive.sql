-- What either side adds counts once; a sum below the floor stands, and is a conflict of its own.

--- configuration
columns = { quantity = { rule = "additive", floor = 0 } }
--- both
CREATE TABLE additive (id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL);
INSERT INTO additive VALUES (1, 'first', 5), (2, 'first', 5), (3, 'first', 5);
--- a
UPDATE additive SET quantity = quantity - 1 WHERE id = 1;
UPDATE additive SET quantity = quantity + 2, name = 'of a' WHERE id = 2;
UPDATE additive SET quantity = quantity - 4 WHERE id = 3;
--- b, later
UPDATE additive SET quantity = quantity - 1 WHERE id = 1;
UPDATE additive SET quantity = quantity - 3, name = 'of b' WHERE id = 2;
UPDATE additive SET quantity = quantity - 3 WHERE id = 3;
--- rows
1 | first | 3
2 | of b | 4
3 | first | -2
--- records
2 | last_writer_wins: b
3 | additive; floor_crossed: quantity
