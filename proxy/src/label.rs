//! Reasons: enums whose variants have a label, the text under which people see them in metrics, the
//! API, the log and the share log.
//!
//! A label is only shown. Code compares, matches and passes on variants. The lists of labels that
//! metrics show from the start come from the enums themselves, so they cannot differ from them.

/// A value of an enum of reasons, with its label.
pub(crate) trait Label: Copy {
    fn label(self) -> &'static str;

    /// All labels, in the order of the enum.
    fn labels() -> Vec<&'static str>;
}

/// Defines an enum of reasons. Each variant is written with its label. After a semicolon follow
/// variants that contain another enum of reasons, whose labels they have.
///
/// ```ignore
/// labels! {
///     pub(crate) enum Alarm {
///         Quiet = "quiet",
///         ;
///         Tls(TlsFault),
///     }
/// }
/// ```
///
/// The macro makes a list of the labels (`LABELS`, in the order of the variants without a value),
/// but none of the variants. A list of variants would count as a use of each one, and the compiler
/// could no longer report variants that no code makes.
macro_rules! labels {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $($(#[$doc:meta])* $variant:ident = $label:literal,)*
            $(; $($(#[$outer_doc:meta])* $outer:ident($inner:ty),)+)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name {
            $($(#[$doc])* $variant,)*
            $($($(#[$outer_doc])* $outer($inner),)+)?
        }

        impl $name {
            $vis const LABELS: [&'static str; [$($label),*].len()] = [$($label),*];
        }

        impl $crate::label::Label for $name {
            fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                    $($(Self::$outer(inner) => $crate::label::Label::label(inner),)+)?
                }
            }

            fn labels() -> Vec<&'static str> {
                let labels = Self::LABELS.into_iter();
                $($(let labels = labels.chain(<$inner as $crate::label::Label>::labels());)+)?
                labels.collect()
            }
        }
    };
}

/// Gives labels to the variants of an enum from another crate.
macro_rules! labels_of {
    ($name:ty { $($variant:ident = $label:literal,)+ }) => {
        impl $crate::label::Label for $name {
            fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }

            fn labels() -> Vec<&'static str> {
                vec![$($label),+]
            }
        }
    };
}

pub(crate) use {labels, labels_of};

#[cfg(test)]
mod tests {
    use super::*;

    labels! {
        enum Inner {
            A = "a",
            B = "b",
        }
    }

    labels! {
        enum Outer {
            One = "one",
            Two = "two",
            ;
            More(Inner),
        }
    }

    #[test]
    fn the_list_of_labels_has_those_of_enums_within() {
        assert_eq!(Outer::labels(), ["one", "two", "a", "b"]);
        assert_eq!(Outer::LABELS, ["one", "two"]);
        let shown = [Outer::One, Outer::Two, Outer::More(Inner::A), Outer::More(Inner::B)];
        assert_eq!(shown.map(Label::label), ["one", "two", "a", "b"]);
        assert_eq!(size_of::<Outer>(), 1, "no larger than a number");
    }
}
