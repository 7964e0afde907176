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

package io.lockstep.bridge.sidecar;

import java.io.IOException;

/** The sidecar answered with an error. The request had no effect. */
public final class SidecarError extends IOException {
  private final int status;
  private final boolean retry;

  SidecarError(int status, String message, boolean retry) {
    super(message);
    this.status = status;
    this.retry = retry;
  }

  /** The HTTP status of the answer, never 200. */
  public int status() {
    return status;
  }

  /** Whether the very same request may succeed later. */
  public boolean retry() {
    return retry;
  }
}
