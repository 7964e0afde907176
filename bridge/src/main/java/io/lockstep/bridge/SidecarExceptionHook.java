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
import com.google.gerrit.git.GitUpdateFailureException;
import com.google.gerrit.git.LockFailureException;
import io.lockstep.bridge.sidecar.SidecarException;
import java.util.Locale;
import java.util.Optional;

/**
 * Reports to the user why an update was not committed. The status is 409 if the update itself was
 * rejected: the user has to change it. It is 503 if the sidecar takes no updates now, or the
 * outcome is not known.
 *
 * <p>A batch does not throw its refusals: Gerrit makes an exception of the results of its commands,
 * and would answer "internal server error".
 */
final class SidecarExceptionHook extends JGitCompatibility.UserMessageHook {
  private static final Status CONFLICT = Status.create(409, "Conflict");
  private static final Status UNAVAILABLE = Status.create(503, "Service Unavailable");

  private record Reason(String message, Status status, String cause) {
    static Reason of(SidecarException thrown) {
      Status status = thrown.kind() == SidecarException.Kind.REJECTED ? CONFLICT : UNAVAILABLE;
      String kind = thrown.kind().name().toLowerCase(Locale.ROOT);
      return new Reason(thrown.getMessage(), status, "lockstep_" + kind);
    }
  }

  @Override
  protected Optional<String> userMessage(Throwable throwable) {
    return find(throwable).map(Reason::message);
  }

  @Override
  public Optional<Status> getStatus(Throwable throwable) {
    return find(throwable).map(Reason::status);
  }

  /** A trace of this server says no more than the message does. */
  @Override
  public boolean skipRetryWithTrace(String actionType, String actionName, Throwable throwable) {
    return find(throwable).isPresent();
  }

  @Override
  public Optional<String> formatCause(Throwable throwable) {
    return find(throwable).map(Reason::cause);
  }

  private static Optional<Reason> find(Throwable throwable) {
    return Throwables.getCausalChain(throwable).stream()
        .flatMap(cause -> reason(cause).stream())
        .findFirst();
  }

  /** Lost compares have no reason of their own: Gerrit retries them, and has its own words. */
  private static Optional<Reason> reason(Throwable thrown) {
    if (thrown instanceof SidecarException exception) {
      return Optional.of(Reason.of(exception));
    }
    if (thrown instanceof GitUpdateFailureException failed
        && !(thrown instanceof LockFailureException)) {
      return failed.getFailures().stream()
          .flatMap(failure -> failure.message().stream())
          .filter(message -> message.startsWith(SidecarException.PREFIX))
          .map(message -> new Reason(message, CONFLICT, "lockstep_rejected"))
          .findFirst();
    }
    return Optional.empty();
  }
}
