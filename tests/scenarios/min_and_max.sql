-- Of two changes of a column the lesser or the greater value stands, whichever came later; one change alone stands as it is.

--- configuration
columns = { lowest = "min", highest = "max" }
--- both
CREATE TABLE min_and_max (id bigint PRIMARY KEY, lowest decimal(10,2), highest decimal(10,2));
INSERT INTO min_and_max VALUES (1, 5.00, 5.00), (2, 5.00, 5.00);
--- a
UPDATE min_and_max SET lowest = 3.50, highest = 9.00 WHERE id = 1;
UPDATE min_and_max SET lowest = 7.00 WHERE id = 2;
--- b, later
UPDATE min_and_max SET lowest = 4.00, highest = 8.00 WHERE id = 1;
UPDATE min_and_max SET highest = 2.00 WHERE id = 2;
--- rows
1 | 3.50 | 9.00
2 | 7.00 | 2.00
--- records
1 | last_writer_wins: b
2 | last_writer_wins: b
