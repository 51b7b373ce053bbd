-- A row that one side removes while the other makes a row refer to it: neither crosses until a person decides.

--- configuration
--- configuration of child
--- both
CREATE TABLE reference_broken (id bigint PRIMARY KEY, name varchar(60));
CREATE TABLE reference_broken_child (id bigint PRIMARY KEY, parent bigint, CONSTRAINT reference_broken_fk FOREIGN KEY (parent) REFERENCES reference_broken (id));
INSERT INTO reference_broken VALUES (1, 'first'), (2, 'second');
--- a
INSERT INTO reference_broken_child VALUES (1, 1);
--- b, later
DELETE FROM reference_broken WHERE id = 1;
--- rows
1 | first
2 | second
--- rows of b
2 | second
--- rows of child
1 | 1
--- rows of child of b
--- held
1 | reference-broken
child 1 | reference-broken
--- records
