//! The scalars of OpenCRVS. What a value has to be is said before it is read, so that no error quotes it.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};

/// A scalar that is a text on the wire, of which nothing more is asked.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(super) struct $name(String);

        #[Scalar]
        impl ScalarType for $name {
            fn parse(value: Value) -> InputValueResult<Self> {
                let Value::String(text) = value else {
                    return Err(InputValueError::custom(concat!(stringify!($name), " is a text")));
                };
                Ok(Self(text))
            }

            fn is_valid(value: &Value) -> bool {
                matches!(value, Value::String(_))
            }

            fn to_value(&self) -> Value {
                Value::String(self.0.clone())
            }
        }
    };
}

text! {
    /// A moment, as `JSON.stringify` of a browser writes it, or a day.
    Date
}

text! {
    /// A day without a time.
    PlainDate
}

/// A value of a form's field: a text, a number, or true or false.
#[derive(Clone, Debug)]
pub(super) struct FieldValue(Value);

#[Scalar]
impl ScalarType for FieldValue {
    fn parse(value: Value) -> InputValueResult<Self> {
        if Self::is_valid(&value) { Ok(Self(value)) } else { Err(InputValueError::custom("FieldValue is a scalar")) }
    }

    fn is_valid(value: &Value) -> bool {
        matches!(value, Value::String(_) | Value::Number(_) | Value::Boolean(_))
    }

    fn to_value(&self) -> Value {
        self.0.clone()
    }
}

/// Nothing, which is written `{}`: the clients of pull request 7559 ask for no member of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Void;

#[Scalar]
impl ScalarType for Void {
    fn parse(_: Value) -> InputValueResult<Self> {
        Ok(Self)
    }

    fn to_value(&self) -> Value {
        Value::Object(async_graphql::indexmap::IndexMap::new())
    }
}
