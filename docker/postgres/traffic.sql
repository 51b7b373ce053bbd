-- Each second, until somebody stops it: an item is sold, and a customer moves.
UPDATE items SET quantity = quantity - 1 WHERE id = (SELECT 1 + floor(random() * 3)) \;
UPDATE customers SET city = (ARRAY['Malmö', 'Brno', 'Vigo', 'Graz', 'Gent'])[1 + floor(random() * 5)]
    WHERE id = (SELECT 1 + floor(random() * 3))
\watch 1
