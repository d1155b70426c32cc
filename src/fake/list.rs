//! Turns a query into one page of rows, newest first, and finds a row by its id.

use super::account::{Account, Resource, Series};
use super::id::{Id, Kind};
use super::json::Json;
use super::query::{Query, is_object};
use super::request::ApiError;

/// One object: where it stands among those of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub series: Series,
    pub index: u64,
}

/// The order of a list: by time, then by series, then by age within the series.
type Place = (i64, Series, u64);

/// The part of one series that a request may see; nothing if `low` is not below `high`.
struct Span {
    series: Series,
    low: u64,
    high: u64,
}

impl Account {
    /// The page that `query` asks for, and whether there are more in its direction.
    pub(super) fn page(&self, resource: Resource, query: &Query) -> Result<(Vec<Row>, bool), ApiError> {
        let mut spans = self.spans(resource, query.created);
        let after = self.cursor(resource, query, "starting_after", query.starting_after.as_deref())?;
        let before = self.cursor(resource, query, "ending_before", query.ending_before.as_deref())?;
        // A cursor and a window both apply, whether or not the cursor lies in the window.
        for span in &mut spans {
            if let Some(row) = after {
                span.high = span.high.min(self.n_older(span.series, row));
            }
            if let Some(row) = before {
                let with_it = u64::from(span.series == row.series);
                span.low = span.low.max(self.n_older(span.series, row) + with_it);
            }
        }
        let mut rows = Vec::with_capacity(query.limit + 1);
        while rows.len() <= query.limit {
            let next =
                if before.is_some() { self.pop_oldest(&mut spans) } else { self.pop_newest(&mut spans) };
            match next {
                Some(row) if query.shows(self, resource, row) => rows.push(row),
                Some(_) => {}
                None => break,
            }
        }
        let has_more = rows.len() > query.limit;
        rows.truncate(query.limit);
        if before.is_some() {
            rows.reverse();
        }
        Ok((rows, has_more))
    }

    /// The row of an id; none if there is no such object.
    pub(super) fn find(&self, resource: Resource, id: &str) -> Option<Row> {
        let (series, index) = match resource {
            Resource::BalanceTransactions => self.transaction_row(id)?,
            Resource::Charges => (Series::Charges, self.ids.index_of(Kind::Charge, id)?),
            Resource::Customers => (Series::Customers, self.ids.index_of(Kind::Customer, id)?),
            Resource::Prices => (Series::Prices, self.ids.index_of(Kind::Price, id)?),
            Resource::Refunds => (Series::Refunds, self.ids.index_of(Kind::Refund, id)?),
            Resource::Subscriptions => (Series::Subscriptions, self.ids.index_of(Kind::Subscription, id)?),
            Resource::Events | Resource::SubscriptionItems => return None,
        };
        let row = Row { series, index };
        let is_known = index < self.series_len(series)
            && is_object(self, resource, row)
            && self.row_id(resource, row).as_str() == id;
        is_known.then_some(row)
    }

    /// Writes the members of an object. Whatever changes objects later stands here.
    pub(super) fn write_row(&self, json: &mut Json, resource: Resource, row: Row) {
        let index = row.index;
        match resource {
            Resource::BalanceTransactions => {
                self.write_transaction(json, &self.transaction(row.series, index))
            }
            Resource::Charges => self.write_charge(json, &self.charge(index)),
            Resource::Customers => self.write_customer(json, &self.customer(index)),
            Resource::Prices => self.write_price(json, &self.price(index)),
            Resource::Refunds => self.write_refund(json, &self.refund(index)),
            Resource::Subscriptions => self.write_subscription(json, &self.subscription(index)),
            Resource::Events | Resource::SubscriptionItems => {}
        }
    }

    pub(super) fn row_id(&self, resource: Resource, row: Row) -> Id {
        match (resource, row.series) {
            (Resource::BalanceTransactions, series) => self.transaction(series, row.index).id,
            (_, Series::Customers) => self.customer_id(row.index),
            (_, Series::Prices) => self.price_id(&self.price(row.index)),
            (_, Series::Refunds) => self.refund_id(&self.refund(row.index)),
            (_, Series::Subscriptions) => self.subscription_id(&self.subscription(row.index)),
            _ => self.charge_id(&self.charge(row.index)),
        }
    }

    fn spans(&self, resource: Resource, created: (i64, i64)) -> Vec<Span> {
        let span = |series: &Series| Span {
            series: *series,
            low: self.len_before(*series, created.0),
            high: self.len_before(*series, created.1),
        };
        resource.series().iter().map(span).collect()
    }

    /// The row of a cursor, which must be visible under the same filters.
    fn cursor(
        &self,
        resource: Resource,
        query: &Query,
        param: &str,
        id: Option<&str>,
    ) -> Result<Option<Row>, ApiError> {
        let Some(id) = id else {
            return Ok(None);
        };
        let row = self.find(resource, id).filter(|row| query.shows(self, resource, *row));
        row.map(Some).ok_or_else(|| ApiError::missing(400, param, resource.singular(), id))
    }

    fn place(&self, series: Series, index: u64) -> Place {
        (self.created(series, index), series, index)
    }

    /// How many of `series` come before `row` in time.
    fn n_older(&self, series: Series, row: Row) -> u64 {
        let created = self.created(row.series, row.index);
        match series.cmp(&row.series) {
            std::cmp::Ordering::Less => self.len_before(series, created + 1),
            std::cmp::Ordering::Equal => row.index,
            std::cmp::Ordering::Greater => self.len_before(series, created),
        }
    }

    fn pop_newest(&self, spans: &mut [Span]) -> Option<Row> {
        let open = spans.iter_mut().filter(|span| span.low < span.high);
        let span = open.max_by_key(|span| self.place(span.series, span.high - 1))?;
        span.high -= 1;
        Some(Row { series: span.series, index: span.high })
    }

    fn pop_oldest(&self, spans: &mut [Span]) -> Option<Row> {
        let open = spans.iter_mut().filter(|span| span.low < span.high);
        let span = open.min_by_key(|span| self.place(span.series, span.low))?;
        span.low += 1;
        Some(Row { series: span.series, index: span.low - 1 })
    }
}
