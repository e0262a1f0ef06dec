//! How often each thing happened that schedules are there to show: a run that saw nothing shows nothing.

macro_rules! counted {
    ($($(#[$comment:meta])* $name:ident,)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub struct Seen {
            $($(#[$comment])* pub $name: u64,)*
        }

        impl Seen {
            pub fn add(&mut self, other: &Seen) {
                $(self.$name += other.$name;)*
            }

            /// Each with its name.
            pub fn each(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counted! {
    /// Inputs that a core was given.
    steps,
    elections,
    committed,
    acknowledged,
    /// Writes that were asked for again, with the same ticket.
    retries,
    /// Entries that hold such a one, and had no effect.
    duplicates,
    truncations,
    reads,
    reads_refused,
    /// By a leader with a lease, at once.
    reads_leased,
    /// By a node that did not lead.
    reads_here,
    boots,
    /// Entries of an earlier term that committed together with one of the leader's own.
    inherited,
    snapshots,
    compacted,
    installed,
    /// Entries that hold a configuration, by leaders that wrote them, and of these the joint ones.
    configurations,
    joint,
    changed,
    transferred,
    operations_refused,
}
