//! Turns an embedded list into rows of a child's table, in one pass.

use crate::decode::fast::{ChildAt, Reader};
use crate::decode::rows::{ParentRow, Rows};
use crate::decode::step::Stop;
use crate::decode::template::Template;
use crate::decode::unnamed::Unnamed;
use crate::decode::{OpenList, Options};
use crate::tokens::{expect, next_in, raw_value, skip_space, string_end};

/// An embedded list on its way into the rows of a child table.
pub struct Embedded<'a> {
    pub page: &'a str,
    pub rows: &'a mut Rows,
    pub template: &'a mut Template,
    pub unnamed: &'a mut Unnamed,
    pub options: Options,
    pub observed_at: i64,
}

impl Embedded<'_> {
    pub fn list(&mut self, list: &ChildAt, parent: &ParentRow) -> Result<Option<OpenList>, Stop> {
        let bytes = self.page.as_bytes();
        let mut at = skip_space(bytes, list.at + 1);
        let (mut has_more, mut url, mut has_data) = (None, String::new(), false);
        let begin = self.rows.table.n_rows;
        let mut has_member = bytes.get(at) != Some(&b'}');
        while has_member {
            let key_at = expect(bytes, at, b'"', "expected a key")?;
            let (key_end, _) = string_end(bytes, key_at)?;
            at = skip_space(bytes, key_end + 1);
            at = skip_space(bytes, expect(bytes, at, b':', "expected :")?);
            at = match &self.page[key_at..key_end] {
                "data" if !has_data => {
                    has_data = true;
                    self.items(at, parent)?
                }
                "has_more" if has_more.is_none() => {
                    let (raw, end) = raw_value(self.page, at)?;
                    has_more = Some(match raw {
                        "true" => true,
                        "false" => false,
                        _ => return Err(Stop::Unusual),
                    });
                    end
                }
                "url" if url.is_empty() => {
                    let (raw, end) = raw_value(self.page, at)?;
                    url = serde_json::from_str(raw).map_err(|_| Stop::Unusual)?;
                    end
                }
                "object" | "total_count" => raw_value(self.page, at)?.1,
                _ => return Err(Stop::Unusual),
            };
            (at, has_member) = next_in(bytes, at, b'}')?;
        }
        match (has_more, has_data) {
            (Some(true), true) => {
                let embedded = self.rows.ids_from(begin);
                Ok(Some(OpenList { child: list.child, parent: parent.clone(), url, embedded }))
            }
            (Some(false), true) => Ok(None),
            _ => Err(Stop::Unusual),
        }
    }

    /// Returns the index behind the array.
    fn items(&mut self, at: usize, parent: &ParentRow) -> Result<usize, Stop> {
        let bytes = self.page.as_bytes();
        if bytes.get(at) != Some(&b'[') {
            return Err(Stop::Unusual);
        }
        let mut at = skip_space(bytes, at + 1);
        if bytes.get(at) == Some(&b']') {
            return Ok(at + 1);
        }
        loop {
            if bytes.get(at) != Some(&b'{') {
                return Err(Stop::Unusual);
            }
            self.unnamed.clear_row();
            let mut reader = Reader {
                page: self.page,
                template: self.template,
                table: &mut self.rows.table,
                unnamed: self.unnamed,
                children: &mut Vec::new(),
            };
            at = reader.row(at + 1)?;
            end_row(self.rows, self.unnamed, self.options, self.observed_at, Some(parent))?;
            let has_more;
            (at, has_more) = next_in(bytes, at, b']')?;
            if !has_more {
                return Ok(at + 1);
            }
        }
    }
}

/// Completes a row that was read the fast way; anything odd about it is for the plain decoder.
pub fn end_row(
    rows: &mut Rows,
    unnamed: &mut Unnamed,
    options: Options,
    observed_at: i64,
    parent: Option<&ParentRow>,
) -> Result<i64, Stop> {
    let row = rows.table.n_rows;
    if let Some(extra) = unnamed.take_extra() {
        rows.extra.put(row, extra);
    }
    let is_other_object =
        rows.stated_object().is_some_and(|object| object != rows.resource.object.as_bytes());
    let stated = rows.stated_livemode();
    let is_other_mode = options.refuse_other_mode && stated.is_some() && stated != options.livemode;
    if is_other_object || (is_other_mode && options.livemode.is_some()) {
        return Err(Stop::Unusual);
    }
    rows.end_row(options.livemode, observed_at, false, parent).map_err(|_| Stop::Unusual)
}
