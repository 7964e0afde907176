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

import com.google.gerrit.extensions.events.LifecycleListener;
import com.google.inject.Inject;
import io.lockstep.bridge.events.EventInbox;
import io.lockstep.bridge.events.EventOutbox;
import io.lockstep.bridge.git.PendingDeletions;
import io.lockstep.bridge.indoubt.InDoubtResolver;
import io.lockstep.bridge.refresh.RefreshPuller;
import io.lockstep.bridge.work.BridgeWorkQueue;
import java.time.Duration;

/** Shakes hands with the sidecar when Gerrit starts, then runs the background tasks. */
final class BridgeLifecycle implements LifecycleListener {
  /** A sidecar that starts replays its journal first. */
  private static final Duration HANDSHAKE_TIMEOUT = Duration.ofMinutes(2);

  private final HandshakeClient handshake;
  private final BridgeWorkQueue work;
  private final PendingDeletions deletions;
  private final RefreshPuller refresh;
  private final EventOutbox outbox;
  private final EventInbox inbox;
  private final InDoubtResolver inDoubt;

  @Inject
  BridgeLifecycle(
      HandshakeClient handshake,
      BridgeWorkQueue work,
      PendingDeletions deletions,
      RefreshPuller refresh,
      EventOutbox outbox,
      EventInbox inbox,
      InDoubtResolver inDoubt) {
    this.handshake = handshake;
    this.work = work;
    this.deletions = deletions;
    this.refresh = refresh;
    this.outbox = outbox;
    this.inbox = inbox;
    this.inDoubt = inDoubt;
  }

  @Override
  public void start() {
    handshake.shakeHands(HANDSHAKE_TIMEOUT);
    deletions.start(work);
    refresh.start();
    outbox.start();
    inbox.start();
    inDoubt.start();
  }

  @Override
  public void stop() {
    inDoubt.stop();
    inbox.stop();
    outbox.stop();
    refresh.stop();
    deletions.stop();
    work.stop();
  }
}
