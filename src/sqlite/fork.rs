//! What a process that forks must not hand to its child.
//!
//! A child has the parent's memory and open files, but only one thread. Whatever the others held stays
//! held in it for ever; and a lock on a file, which belongs to all who have it open, stays locked for the
//! parent and everybody else until the child ends. So a child forgets the files that are locked, and what
//! the process shares is made anew in it.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many forks lie between this process and the one that loaded the library.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The list of files that a child closes. It only grows; places in it are used again.
static HELD: AtomicPtr<Place> = AtomicPtr::new(ptr::null_mut());

/// A place for a file in the list.
struct Place {
    descriptor: AtomicI32,
    next: *mut Place,
}

/// No file is in the place.
const FREE: i32 = -1;

/// Which process this is: another one after each fork.
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Makes forks known to this module from now on. The first call is the one that counts.
#[cfg(unix)]
pub fn watch() -> io::Result<()> {
    use std::sync::atomic::AtomicBool;

    static WATCHED: AtomicBool = AtomicBool::new(false);
    if WATCHED.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    // SAFETY: `in_child` is a function of this library, which stays loaded, and only does what a signal
    // handler may do, too.
    match unsafe { libc::pthread_atfork(None, None, Some(in_child)) } {
        0 => Ok(()),
        code => {
            WATCHED.store(false, Ordering::Release);
            Err(io::Error::from_raw_os_error(code))
        }
    }
}

/// No other system forks.
#[cfg(not(unix))]
pub fn watch() -> io::Result<()> {
    Ok(())
}

/// The first that a child does. Its other threads are gone, wherever they were: no lock may be taken
/// here, and no memory.
#[cfg(unix)]
extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    let mut place = HELD.load(Ordering::Acquire);
    while !place.is_null() {
        // SAFETY: places are never freed, and `next` never changes once a place is in the list.
        let Place { descriptor, next } = unsafe { &*place };
        let descriptor = descriptor.swap(FREE, Ordering::AcqRel);
        if descriptor != FREE {
            // SAFETY: its owner does not close it: it finds the place free, or is gone.
            unsafe { libc::close(descriptor) };
        }
        place = *next;
    }
}

/// A locked file, which is unlocked when this is dropped. Only the process that made this has the lock:
/// a child that is forked does not.
#[derive(Debug)]
pub struct LockedFile {
    file: ManuallyDrop<File>,
    /// Where a child finds the file.
    place: &'static AtomicI32,
    /// The process that has the lock.
    generation: u32,
}

impl LockedFile {
    /// Takes over a file that is locked.
    pub fn new(file: File) -> Self {
        let place = hold(descriptor(&file));
        Self {
            file: ManuallyDrop::new(file),
            place,
            generation: generation(),
        }
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        if self.generation != generation() {
            // In a child, which has closed the descriptor: by now it may be that of another file, and the
            // place another lock's.
            return;
        }
        self.place.store(FREE, Ordering::Release);
        // A process that is just being started may have the file, too, until it has forgotten its
        // parent's: closing it here would not unlock it. If it fails, closing is what is left.
        let _ = self.file.unlock();
        // SAFETY: it is not used again.
        unsafe { ManuallyDrop::drop(&mut self.file) };
    }
}

#[cfg(unix)]
fn descriptor(file: &File) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(file)
}

/// Any that is not [`FREE`]: nobody forks.
#[cfg(not(unix))]
fn descriptor(_file: &File) -> i32 {
    0
}

/// Puts a descriptor into the list; what is returned is its place.
fn hold(descriptor: i32) -> &'static AtomicI32 {
    let mut place = HELD.load(Ordering::Acquire);
    while !place.is_null() {
        // SAFETY: places are never freed, and `next` never changes once a place is in the list.
        let here: &'static Place = unsafe { &*place };
        let taken =
            here.descriptor
                .compare_exchange(FREE, descriptor, Ordering::AcqRel, Ordering::Relaxed);
        if taken.is_ok() {
            return &here.descriptor;
        }
        place = here.next;
    }
    let new = Box::into_raw(Box::new(Place {
        descriptor: AtomicI32::new(descriptor),
        next: ptr::null_mut(),
    }));
    let mut first = HELD.load(Ordering::Acquire);
    loop {
        // SAFETY: nobody else knows the place before it is in the list.
        unsafe { (*new).next = first };
        match HELD.compare_exchange(first, new, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: places are never freed.
            Ok(_) => return unsafe { &(*new).descriptor },
            Err(present) => first = present,
        }
    }
}

/// What all threads of a process share, one at a time. A child that is forked has one of its own, which
/// begins empty: in the parent's a thread may have been at work that the child does not have.
pub struct PerProcess<T: 'static> {
    current: AtomicPtr<Shared<T>>,
}

struct Shared<T> {
    generation: u32,
    value: Mutex<T>,
}

impl<T: Default + Send> PerProcess<T> {
    /// Nothing yet.
    pub const fn empty() -> Self {
        Self {
            current: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// What this process shares. Whoever panics while holding it must leave it usable.
    pub fn lock(&'static self) -> MutexGuard<'static, T> {
        let mutex = &self.shared().value;
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&'static self) -> &'static Shared<T> {
        let generation = generation();
        let mut present = self.current.load(Ordering::Acquire);
        loop {
            // SAFETY: what was once in `current` is never freed.
            if let Some(shared) = unsafe { present.as_ref() }
                && shared.generation == generation
            {
                return shared;
            }
            let new = Box::into_raw(Box::new(Shared {
                generation,
                value: Mutex::default(),
            }));
            let replaced =
                self.current
                    .compare_exchange(present, new, Ordering::AcqRel, Ordering::Acquire);
            match replaced {
                // The parent's stays where it is: to free it would be to copy its memory first.
                // SAFETY: it was made above, and from now on is never freed.
                Ok(_) => return unsafe { &*new },
                Err(newer) => {
                    // SAFETY: it was made above, and nobody else has seen it.
                    drop(unsafe { Box::from_raw(new) });
                    present = newer;
                }
            }
        }
    }
}
