//! Tells what may stand between the values of a file: white space, or the brackets and commas of an array.

/// How far an array has come; values may also stand outside of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Between {
    #[default]
    Outside,
    /// Behind the opening bracket.
    Opened,
    BehindValue,
    BehindComma,
}

impl Between {
    /// What `byte` makes of it; `None` for what does not stand between values here.
    pub fn over(self, byte: u8) -> Option<Between> {
        match (self, byte) {
            (_, b' ' | b'\n' | b'\r' | b'\t') => Some(self),
            (Between::Outside, b'[') => Some(Between::Opened),
            (Between::Opened | Between::BehindValue, b']') => Some(Between::Outside),
            (Between::BehindValue, b',') => Some(Between::BehindComma),
            _ => None,
        }
    }

    pub fn behind_value(self) -> Between {
        match self {
            Between::Outside => self,
            _ => Between::BehindValue,
        }
    }

    /// What has to come, for an error.
    pub fn expected(self) -> &'static str {
        match self {
            Between::BehindValue => "a comma or the end of the array",
            _ => "a JSON object",
        }
    }
}
