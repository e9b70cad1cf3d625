//! Memory that is not needed any more.

/// Has the allocator give back to the system what was freed more than a second ago. Of its own accord
/// it does that when it is asked for more, so a process at rest would keep what its last burst of work
/// took: of 5,000 Ingresses 10 MB and more. It also does it where a thread ends that used it, which
/// is the one way that needs no `unsafe`. Not for workers: a thread is started for it.
pub fn give_back() {
    let thread = std::thread::Builder::new().name("give-back".to_owned());
    // Without a thread it stays until there is more work.
    let _ = thread.spawn(|| drop(std::hint::black_box(Box::new(0_u8))));
}
