-- What refers to a row that the other side removes goes with it. A parent that goes with its children, and a child that comes with its parent, are no conflict.

--- configuration
--- configuration of child
foreign_key = "delete_child"
--- both
CREATE TABLE delete_child (id bigint PRIMARY KEY, name varchar(60));
CREATE TABLE delete_child_child (id bigint PRIMARY KEY, parent bigint, CONSTRAINT delete_child_fk FOREIGN KEY (parent) REFERENCES delete_child (id));
INSERT INTO delete_child VALUES (1, 'first'), (2, 'second'), (3, 'third');
INSERT INTO delete_child_child VALUES (3, 3), (4, 3);
--- a
INSERT INTO delete_child_child VALUES (1, 1);
INSERT INTO delete_child VALUES (9, 'ninth');
INSERT INTO delete_child_child VALUES (9, 9);
--- b, later
DELETE FROM delete_child WHERE id = 1;
DELETE FROM delete_child_child WHERE parent = 3;
DELETE FROM delete_child WHERE id = 3;
--- rows
2 | second
9 | ninth
--- rows of child
9 | 9
--- records
1 | only_writer: b
child 1 | only_writer: a; delete_child: delete_child_fk
