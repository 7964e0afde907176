// Copyright (C) 2026 The Lockstep Authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

package io.lockstep.bridge.work;

import com.google.common.base.Throwables;
import java.io.InterruptedIOException;
import java.nio.channels.ClosedByInterruptException;

/** Tells a failure from an interrupt, which Gerrit's classes wrap in exceptions of their own. */
public final class Interrupts {
  private Interrupts() {}

  /**
   * Ends the caller if a failure came of an interrupt.
   *
   * @throws InterruptedException the thread was interrupted, and the failure may be the consequence
   */
  public static void rethrow(Throwable failure) throws InterruptedException {
    if (Thread.currentThread().isInterrupted()
        || Throwables.getCausalChain(failure).stream().anyMatch(Interrupts::isInterrupt)) {
      throw new InterruptedException(failure.toString());
    }
  }

  private static boolean isInterrupt(Throwable e) {
    return e instanceof InterruptedException
        || e instanceof InterruptedIOException
        || e instanceof ClosedByInterruptException;
  }
}
