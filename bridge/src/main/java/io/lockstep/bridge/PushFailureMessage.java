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

import com.google.inject.Inject;
import io.lockstep.bridge.sidecar.Sidecar;
import java.util.Collection;
import org.eclipse.jgit.transport.PostReceiveHook;
import org.eclipse.jgit.transport.ReceiveCommand;
import org.eclipse.jgit.transport.ReceivePack;

/**
 * Tells the user why a push failed. If a push ended with an exception, Gerrit reports only
 * "internal error". This hook adds the message of the latest update that failed.
 */
final class PushFailureMessage implements PostReceiveHook {
  private final Sidecar sidecar;

  @Inject
  PushFailureMessage(Sidecar sidecar) {
    this.sidecar = sidecar;
  }

  /** Called after every push, with the commands that succeeded. */
  @Override
  public void onPostReceive(ReceivePack push, Collection<ReceiveCommand> succeeded) {
    if (push.getAllCommands().stream().anyMatch(PushFailureMessage::failedWithoutReason)) {
      sidecar.recentFailure().ifPresent(push::sendMessage);
    }
  }

  private static boolean failedWithoutReason(ReceiveCommand command) {
    return command.getResult() == ReceiveCommand.Result.REJECTED_OTHER_REASON
        && "internal error".equals(command.getMessage());
  }
}
