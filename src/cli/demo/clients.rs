//! The shop's applications: clients that write to both sides at once, and rivals that write the same row
//! on both sides before either side can know.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pontoon_core::{Code, Error, Result};
use pontoon_servers::Kind;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    schema,
    sql::{Failure, Login, Session},
    story::Story,
    teller::Who,
};
use crate::{
    observe::now_micros,
    side::{Pair, Side},
};

/// Sessions on each side.
const CLIENTS_PER_SIDE: u64 = 2;

/// One contest for so many writes, and at least so many: enough to see some, few enough that most writes
/// just cross.
const WRITES_PER_CONTEST: u64 = 80;
const CONTESTS_MIN: u64 = 5;

/// Of so many writes of an item or a customer one is of the other side's half, and may meet another by chance.
const STRANGE: u32 = 40;

/// The longest pause between the two commits of a contest. The rows stay locked until then, so that
/// neither write can cross before the other is made.
const CONTEST_PAUSE_MAX_MILLIS: u64 = 8;

/// A contest that has to straddle the turn of a second begins so long before it: longer than its statements take.
const BEFORE_TURN: Duration = Duration::from_millis(40);
const SECOND: Duration = Duration::from_secs(1);

/// How often a write is tried again that met a lock, before it is an error.
const ATTEMPTS_MAX: u32 = 50;

/// What the applications share.
pub(super) struct Shop {
    logins: Pair<Login>,
    story: Arc<Story>,
    /// Writes that are to be made, those of contests included.
    total: u64,
    contests: u64,
    reserved: AtomicU64,
    written: Pair<AtomicU64>,
    /// Writes that met a lock and were made in another attempt.
    retried: AtomicU64,
    /// Orders that somebody has taken and nobody cancelled.
    orders: Mutex<Vec<u128>>,
    started: Instant,
    /// From one write to the next, of all clients together.
    pace: Duration,
}

impl Shop {
    /// As long as that the clients take for their writes, if they can.
    pub(super) fn new(logins: Pair<Login>, story: Arc<Story>, total: u64, duration: Duration) -> Shop {
        let contests = (total / WRITES_PER_CONTEST).max(CONTESTS_MIN).min(total / 2);
        Shop {
            logins,
            story,
            total,
            contests,
            reserved: AtomicU64::new(0),
            written: Pair::default(),
            retried: AtomicU64::new(0),
            orders: Mutex::default(),
            started: Instant::now(),
            pace: duration.div_f64(total.max(1) as f64),
        }
    }

    /// Writes that are to be made.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Makes all writes. Errors: a session is lost or refused.
    pub(super) async fn trade(self: Arc<Self>) -> Result<()> {
        let mut tasks = JoinSet::new();
        for side in Side::BOTH {
            for number in 0..CLIENTS_PER_SIDE {
                tasks.spawn(client(self.clone(), side, number));
            }
        }
        tasks.spawn(rivals(self.clone()));
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| Error::new(Code::Internal, format!("a client of the demo ended: {error}")))??;
        }
        Ok(())
    }

    /// Rows written so far on a side.
    pub(super) fn written(&self, side: Side) -> u64 {
        self.written[side].load(Ordering::Relaxed)
    }

    /// On both.
    pub(super) fn written_in_all(&self) -> u64 {
        Side::BOTH.map(|side| self.written(side)).iter().sum()
    }

    /// Transactions that were rolled back for a lock, and made again.
    pub(super) fn retried(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }

    /// The right to make one more write; `None` when all are made.
    fn reserve(&self) -> Option<u64> {
        let clients = self.total - 2 * self.contests;
        self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < clients).then_some(n + 1)).ok()
    }

    /// A write has been committed.
    fn wrote(&self, side: Side, what: impl FnOnce() -> String) {
        self.written[side].fetch_add(1, Ordering::Relaxed);
        self.story.wrote(side, what);
    }

    fn orders(&self) -> std::sync::MutexGuard<'_, Vec<u128>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn some_order(&self, dice: &mut SmallRng) -> Option<u128> {
        let orders = self.orders();
        (!orders.is_empty()).then(|| orders[dice.random_range(0..orders.len())])
    }

    fn forget_order(&self, order: u128) {
        self.orders().retain(|known| *known != order);
    }
}

/// One client of one side.
async fn client(shop: Arc<Shop>, side: Side, number: u64) -> Result<()> {
    let mut client = Client {
        session: Session::open(&shop.logins[side]).await?,
        shop: shop.clone(),
        side,
        dice: SmallRng::seed_from_u64(2 * number + side as u64),
        registered: Vec::new(),
    };
    while let Some(turn) = shop.reserve() {
        sleep_until(shop.started + shop.pace.mul_f64(turn as f64)).await;
        client.take_turn().await?;
    }
    Ok(())
}

struct Client {
    session: Session,
    shop: Arc<Shop>,
    side: Side,
    dice: SmallRng,
    /// Customers that registered with this client: they are known to be on this side.
    registered: Vec<u64>,
}

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    PlaceOrder,
    Restock,
    Reprice,
    PayOrder,
    CancelOrder,
    Register,
    ChangeCustomer,
}

impl Act {
    /// One of them, as often as its part of a hundred.
    fn some(dice: &mut SmallRng) -> Act {
        match dice.random_range(0..100) {
            0..22 => Act::PlaceOrder,
            22..40 => Act::Restock,
            40..52 => Act::Reprice,
            52..70 => Act::PayOrder,
            70..76 => Act::CancelOrder,
            76..84 => Act::Register,
            _ => Act::ChangeCustomer,
        }
    }
}

impl Client {
    /// Makes one write, or the two of an order.
    async fn take_turn(&mut self) -> Result<()> {
        let mut act = Act::some(&mut self.dice);
        if act == Act::PlaceOrder && self.shop.reserve().is_none() {
            act = Act::Restock;
        }
        let mut attempts = 0;
        loop {
            match self.act(act).await {
                Ok(true) => return Ok(()),
                // The order that was chosen has not crossed yet, or is cancelled: something else is done then.
                Ok(false) => act = Act::Restock,
                Err(Failure::Passing) if attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                    self.shop.retried.fetch_add(1, Ordering::Relaxed);
                    self.session.run("ROLLBACK").await?;
                    sleep(Duration::from_millis(self.dice.random_range(1..20))).await;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    /// Whether there was something to do.
    async fn act(&mut self, act: Act) -> Result<bool, Failure> {
        match act {
            Act::PlaceOrder => self.place_order().await,
            Act::Restock => self.restock().await,
            Act::Reprice => self.reprice().await,
            Act::PayOrder => self.pay_order().await,
            Act::CancelOrder => self.cancel_order().await,
            Act::Register => self.register().await,
            Act::ChangeCustomer => self.change_customer().await,
        }
    }

    fn item(&mut self) -> u64 {
        self.own_or_strange(schema::ITEMS)
    }

    /// One of the customers from the start, or of those that registered here.
    fn customer(&mut self) -> u64 {
        match self.dice.random_range(0..2) {
            0 if !self.registered.is_empty() => self.registered[self.dice.random_range(0..self.registered.len())],
            _ => self.own_or_strange(schema::CUSTOMERS),
        }
    }

    /// A key of this side's half of `1..=last`, but for a few.
    fn own_or_strange(&mut self, last: u64) -> u64 {
        let strange = self.dice.random_range(0..STRANGE) == 0;
        let own = self.dice.random_range(0..last / 2) * 2 + 1 + self.side as u64;
        if strange { self.dice.random_range(1..=last) } else { own }
    }

    /// An item's quantity and price, locked.
    async fn lock_item(&mut self, item: u64) -> Result<(i64, i64), Failure> {
        self.session.run("BEGIN").await?;
        lock_item(&mut self.session, item).await
    }

    async fn place_order(&mut self) -> Result<bool, Failure> {
        let (item, customer, order) = (self.item(), self.customer(), random_uuid(&mut self.dice));
        let (stock, price) = self.lock_item(item).await?;
        let wanted = self.dice.random_range(1..=3);
        // An empty shelf is filled by the way.
        let left = if stock >= wanted { stock - wanted } else { stock + 50 - wanted };
        insert_order(&mut self.session, order, customer, item, wanted, price).await?;
        set_quantity(&mut self.session, item, left).await?;
        self.session.run("COMMIT").await?;
        self.shop.orders().push(order);
        self.shop.wrote(self.side, || {
            format!(
                "INSERT orders {} {wanted} × item {item} for customer {customer}, {}",
                short(order),
                cents(wanted * price)
            )
        });
        self.shop.wrote(self.side, || format!("UPDATE items {item} quantity {stock} -> {left}"));
        Ok(true)
    }

    async fn restock(&mut self) -> Result<bool, Failure> {
        let item = self.item();
        let (stock, _) = self.lock_item(item).await?;
        let now = if stock > 90 { stock - 40 } else { stock + self.dice.random_range(1..20) };
        set_quantity(&mut self.session, item, now).await?;
        self.session.run("COMMIT").await?;
        self.shop.wrote(self.side, || format!("UPDATE items {item} quantity {stock} -> {now}"));
        Ok(true)
    }

    async fn reprice(&mut self) -> Result<bool, Failure> {
        let item = self.item();
        let (_, price) = self.lock_item(item).await?;
        let now = another_price(&mut self.dice, price);
        set_price(&mut self.session, item, now).await?;
        self.session.run("COMMIT").await?;
        self.shop.wrote(self.side, || format!("UPDATE items {item} price {} -> {}", cents(price), cents(now)));
        Ok(true)
    }

    async fn pay_order(&mut self) -> Result<bool, Failure> {
        let Some(order) = self.shop.some_order(&mut self.dice) else { return Ok(false) };
        let note = format!("parcel {}", self.dice.random_range(10_000..99_999));
        let key = schema::uuid(self.session.kind, order);
        let sql = format!("UPDATE orders SET paid = true, note = {} WHERE id = {key}", schema::text(&note));
        if self.session.run(&sql).await? == 0 {
            return Ok(false);
        }
        self.shop.wrote(self.side, || format!("UPDATE orders {} paid yes, note {note:?}", short(order)));
        Ok(true)
    }

    async fn cancel_order(&mut self) -> Result<bool, Failure> {
        let Some(order) = self.shop.some_order(&mut self.dice) else { return Ok(false) };
        let key = schema::uuid(self.session.kind, order);
        if self.session.run(&format!("DELETE FROM orders WHERE id = {key}")).await? == 0 {
            return Ok(false);
        }
        self.shop.forget_order(order);
        self.shop.wrote(self.side, || format!("DELETE orders {}", short(order)));
        Ok(true)
    }

    async fn register(&mut self) -> Result<bool, Failure> {
        let number = self.dice.random_range(0..100_000);
        let (name, city) = (schema::customer_name(number), schema::city(number));
        let sql = format!(
            "INSERT INTO customers (name, city, newsletter, profile) VALUES ({}, {}, {}, {})",
            schema::text(&name),
            schema::text(city),
            number % 2 == 0,
            schema::text(&schema::profile(number))
        );
        let id = self.session.insert(&sql).await?;
        self.registered.push(id);
        self.shop.wrote(self.side, || format!("INSERT customers {id} {name}, {city}"));
        Ok(true)
    }

    async fn change_customer(&mut self) -> Result<bool, Failure> {
        let (customer, number) = (self.customer(), self.dice.random_range(0..100_000));
        let profile = schema::profile(number);
        let sql = format!(
            "UPDATE customers SET newsletter = NOT newsletter, profile = {} WHERE id = {customer}",
            schema::text(&profile)
        );
        if self.session.run(&sql).await? == 0 {
            return Ok(false);
        }
        self.shop.wrote(self.side, || format!("UPDATE customers {customer} profile {profile}"));
        Ok(true)
    }
}

/// An item's quantity and price in cents, its row locked.
async fn lock_item(session: &mut Session, item: u64) -> Result<(i64, i64), Failure> {
    let rows = session.rows(&format!("SELECT quantity, price FROM items WHERE id = {item} FOR UPDATE")).await?;
    let numbers =
        rows.first().and_then(|row| Some((row.first()?.parse().ok()?, row.get(1)?.replace('.', "").parse().ok()?)));
    numbers.ok_or_else(|| Failure::Lasting(Error::new(Code::Internal, format!("the demo's item {item} is gone"))))
}

async fn set_quantity(session: &mut Session, item: u64, quantity: i64) -> Result<u64, Failure> {
    session
        .run(&format!("UPDATE items SET quantity = {quantity}, updated_at = CURRENT_TIMESTAMP(6) WHERE id = {item}"))
        .await
}

async fn set_price(session: &mut Session, item: u64, price: i64) -> Result<u64, Failure> {
    let price = cents(price);
    session.run(&format!("UPDATE items SET price = {price}, updated_at = CURRENT_TIMESTAMP(6) WHERE id = {item}")).await
}

async fn insert_order(
    session: &mut Session,
    order: u128,
    customer: u64,
    item: u64,
    quantity: i64,
    price: i64,
) -> Result<u64, Failure> {
    let key = schema::uuid(session.kind, order);
    let total = cents(quantity * price);
    session
        .run(&format!(
            "INSERT INTO orders (id, customer, item, quantity, total, paid) \
             VALUES ({key}, {customer}, {item}, {quantity}, {total}, false)"
        ))
        .await
}

fn another_price(dice: &mut SmallRng, price: i64) -> i64 {
    (price * dice.random_range(85..118) / 100).max(150) + dice.random_range(1..9)
}

/// `12.05`.
fn cents(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn short(order: u128) -> String {
    format!("{order:032x}")[..8].to_owned()
}

/// A random UUID (version 4).
fn random_uuid(dice: &mut SmallRng) -> u128 {
    dice.random::<u128>() & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62)
}

/// The time until the clock's next whole second.
fn until_turn() -> Duration {
    let micros = now_micros().rem_euclid(1_000_000);
    SECOND.saturating_sub(Duration::from_micros(micros.unsigned_abs()))
}

/// What two rivals do to one row.
#[derive(Debug, Clone, Copy)]
enum Contest {
    BothQuantity,
    PriceAgainstQuantity,
    UpdateAgainstDelete,
    BothCity,
    SameKeyInserted,
}

impl Contest {
    const ALL: [Contest; 5] = [
        Contest::BothQuantity,
        Contest::UpdateAgainstDelete,
        Contest::PriceAgainstQuantity,
        Contest::SameKeyInserted,
        Contest::BothCity,
    ];
}

/// Two clients that contend, again and again while the others work.
async fn rivals(shop: Arc<Shop>) -> Result<()> {
    let mut rivals = Rivals {
        sessions: Pair::new(Session::open(&shop.logins[Side::A]).await?, Session::open(&shop.logins[Side::B]).await?),
        dice: SmallRng::seed_from_u64(99),
        shop: shop.clone(),
        late: false,
    };
    for number in 0..shop.contests {
        // Spread over the writes of the others.
        let due = |number: u64| (shop.total - 2 * shop.contests) * (number + 1) / (shop.contests + 1) + 2 * number;
        while shop.written_in_all() < due(number) {
            sleep(Duration::from_millis(2)).await;
        }
        rivals.late = shop.written_in_all() >= due(number + 1);
        let kinds = Contest::ALL.len() as u64;
        let mut contest = Contest::ALL[usize::try_from(number % kinds).unwrap_or_default()];
        let mut attempts = 0;
        loop {
            match rivals.contend(contest).await {
                Ok(true) => break,
                // There is no such order on both sides yet.
                Ok(false) => contest = Contest::BothQuantity,
                Err(Failure::Passing) if attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                    shop.retried.fetch_add(1, Ordering::Relaxed);
                }
                Err(failure) => return Err(failure.into()),
            }
            for side in Side::BOTH {
                rivals.sessions[side].run("ROLLBACK").await?;
            }
        }
    }
    Ok(())
}

struct Rivals {
    sessions: Pair<Session>,
    dice: SmallRng,
    shop: Arc<Shop>,
    /// The next contest is due as well: there is no time to wait for the turn of a second.
    late: bool,
}

impl Rivals {
    /// Writes the same row on both sides, each before it can know of the other. Whether there was such a row.
    async fn contend(&mut self, contest: Contest) -> Result<bool, Failure> {
        let order = match contest {
            Contest::UpdateAgainstDelete => match self.shop.some_order(&mut self.dice) {
                Some(order) => order,
                None => return Ok(false),
            },
            _ => random_uuid(&mut self.dice),
        };
        let number = self.dice.random_range(0..10_000);
        // Who deletes, who changes the price, who commits last: by chance.
        let (one, mut last) = (self.some_side(), self.some_side());
        // MariaDB's log has the times of commits in whole seconds. To be the later one by that, its write is made
        // after the turn of a second, and the other before. With no time for that, the other is to be the later one.
        let coarse = |side: Side| self.sessions[side].kind == Kind::Mariadb;
        if self.late && coarse(last) {
            last = last.other();
        }
        let straddles = !self.late && coarse(last);
        if straddles {
            let turn = until_turn();
            sleep(turn.checked_sub(BEFORE_TURN).unwrap_or(turn + SECOND - BEFORE_TURN)).await;
        }
        let mut told = Pair::<String>::default();
        for side in Side::BOTH {
            self.sessions[side].run("BEGIN").await?;
            told[side] = match self.write(contest, side, side == one, order, number).await? {
                Some(told) => told,
                None => return Ok(false),
            };
        }
        let pause = Duration::from_micros(self.dice.random_range(500..CONTEST_PAUSE_MAX_MILLIS * 1000));
        for side in [last.other(), last] {
            if side == last {
                let turn = until_turn();
                // Where the statements took so long that it is past already, nothing is gained by waiting.
                sleep(if straddles && turn < BEFORE_TURN { turn + pause } else { pause }).await;
            }
            self.sessions[side].run("COMMIT").await?;
            self.shop.written[side].fetch_add(1, Ordering::Relaxed);
            self.shop.story.tell(&Who::Node(side), &told[side]);
        }
        match contest {
            Contest::SameKeyInserted => self.shop.orders().push(order),
            Contest::UpdateAgainstDelete if last == one => self.shop.forget_order(order),
            _ => {}
        }
        Ok(true)
    }

    fn some_side(&mut self) -> Side {
        if self.dice.random() { Side::A } else { Side::B }
    }

    /// One side's write, not yet committed; `None` if its row is not there.
    async fn write(
        &mut self,
        contest: Contest,
        side: Side,
        is_one: bool,
        order: u128,
        number: u64,
    ) -> Result<Option<String>, Failure> {
        let (item, customer) = (number % schema::ITEMS + 1, number % schema::CUSTOMERS + 1);
        let session = &mut self.sessions[side];
        Ok(match contest {
            Contest::PriceAgainstQuantity if is_one => {
                let (_, price) = lock_item(session, item).await?;
                let now = another_price(&mut self.dice, price);
                set_price(session, item, now).await?;
                Some(format!("UPDATE items {item} price {} -> {}", cents(price), cents(now)))
            }
            Contest::BothQuantity | Contest::PriceAgainstQuantity => {
                let (stock, _) = lock_item(session, item).await?;
                // Never the same on both sides.
                let now = 2 * self.dice.random_range(5..50) + side as i64;
                set_quantity(session, item, now).await?;
                Some(format!("UPDATE items {item} quantity {stock} -> {now}"))
            }
            Contest::UpdateAgainstDelete => {
                let key = schema::uuid(session.kind, order);
                let note = format!("call back {number}");
                let (sql, told) = if is_one {
                    (format!("DELETE FROM orders WHERE id = {key}"), format!("DELETE orders {}", short(order)))
                } else {
                    let note = schema::text(&note);
                    (
                        format!("UPDATE orders SET note = {note} WHERE id = {key}"),
                        format!("UPDATE orders {} note {note}", short(order)),
                    )
                };
                (session.run(&sql).await? == 1).then_some(told)
            }
            Contest::BothCity => {
                let city = schema::city(number + 3 * side as u64);
                let sql = format!("UPDATE customers SET city = {} WHERE id = {customer}", schema::text(city));
                session.run(&sql).await?;
                Some(format!("UPDATE customers {customer} city {city}"))
            }
            Contest::SameKeyInserted => {
                let quantity = 1 + side as i64;
                insert_order(session, order, customer, item, quantity, 1000).await?;
                Some(format!("INSERT orders {} {quantity} × item {item} for customer {customer}", short(order)))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_prices() {
        let uuid = format!("{:032x}", random_uuid(&mut SmallRng::seed_from_u64(1)));
        assert_eq!(&uuid[12..13], "4");
        assert!("89ab".contains(&uuid[16..17]));
        assert_eq!([cents(5), cents(1205)], ["0.05", "12.05"]);
    }
}
