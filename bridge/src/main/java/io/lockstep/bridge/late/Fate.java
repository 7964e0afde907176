package io.lockstep.bridge.late;

/** What became of an update. */
enum Fate {
  COMMITTED,
  /** It may be committed still. */
  OPEN,
  /** It was not committed, and cannot be any more. */
  NEVER
}
