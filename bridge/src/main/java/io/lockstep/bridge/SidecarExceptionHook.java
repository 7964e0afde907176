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

package io.lockstep.bridge;

import com.google.common.base.Throwables;
import io.lockstep.bridge.sidecar.SidecarException;
import java.util.Locale;
import java.util.Optional;

/** Reports a {@link SidecarException} to the user: its message, with HTTP status 503. */
final class SidecarExceptionHook extends JGitCompatibility.UserMessageHook {
  @Override
  protected Optional<String> userMessage(Throwable throwable) {
    return find(throwable).map(SidecarException::getMessage);
  }

  @Override
  public Optional<Status> getStatus(Throwable throwable) {
    return find(throwable).map(found -> Status.create(503, "Service Unavailable"));
  }

  /** A trace of this server says no more than the message does. */
  @Override
  public boolean skipRetryWithTrace(String actionType, String actionName, Throwable throwable) {
    return find(throwable).isPresent();
  }

  @Override
  public Optional<String> formatCause(Throwable throwable) {
    return find(throwable).map(found -> "lockstep_" + found.kind().name().toLowerCase(Locale.ROOT));
  }

  private static Optional<SidecarException> find(Throwable throwable) {
    return Throwables.getCausalChain(throwable).stream()
        .filter(SidecarException.class::isInstance)
        .map(SidecarException.class::cast)
        .findFirst();
  }
}
