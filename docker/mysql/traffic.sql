-- Once a second: an item comes in, at another price, and a customer has another address.
SET @item = 1 + floor(rand() * 3), @customer = 1 + floor(rand() * 3);
UPDATE items SET quantity = quantity + 1, price = round(10 + rand() * 20, 2) WHERE id = @item;
UPDATE customers SET email = concat('mail-', floor(rand() * 1000), '@example.org') WHERE id = @customer;
