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
import java.util.LinkedHashSet;
import java.util.Set;
import org.eclipse.jgit.transport.PostReceiveHook;
import org.eclipse.jgit.transport.ReceiveCommand;
import org.eclipse.jgit.transport.ReceivePack;

/**
 * Tells the user the transactions of a push, for which {@code lockstep await} waits. It knows them
 * by the values that were pushed. A deletion has none.
 */
final class PushTransactionMessage implements PostReceiveHook {
  /** The most transactions that are told for one push. */
  private static final int MAX_TOLD = 5;

  private final Sidecar sidecar;

  @Inject
  PushTransactionMessage(Sidecar sidecar) {
    this.sidecar = sidecar;
  }

  /** Called after every push, with the commands that succeeded. */
  @Override
  public void onPostReceive(ReceivePack push, Collection<ReceiveCommand> succeeded) {
    Set<String> told = new LinkedHashSet<>();
    for (ReceiveCommand command : succeeded) {
      sidecar.transactionOf(command.getNewId()).ifPresent(told::add);
    }
    told.stream().limit(MAX_TOLD).forEach(id -> push.sendMessage("Lockstep: transaction " + id));
  }
}
