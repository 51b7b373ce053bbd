-- Of two rows that cannot both live the later write's stands. The other becomes what it was, or goes if it is new.

--- configuration
unique_conflict = "rule"
--- both
CREATE TABLE unique_by_rule (id bigint PRIMARY KEY, code varchar(20), CONSTRAINT unique_by_rule_code UNIQUE (code));
INSERT INTO unique_by_rule VALUES (1, 'one'), (2, 'two');
--- a
UPDATE unique_by_rule SET code = 'changed' WHERE id = 1;
INSERT INTO unique_by_rule VALUES (11, 'the same');
--- b, later
UPDATE unique_by_rule SET code = 'changed' WHERE id = 2;
INSERT INTO unique_by_rule VALUES (12, 'the same');
--- rows
1 | one
2 | changed
12 | the same
--- records
1 | only_writer: a; unique_conflict: unique_by_rule_code, key (2) stands
2 | only_writer: b
11 | only_writer: a; unique_conflict: unique_by_rule_code, key (12) stands
12 | only_writer: b
