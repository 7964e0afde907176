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
import io.lockstep.bridge.git.Deletions;
import io.lockstep.bridge.late.LateEvents;
import io.lockstep.bridge.refresh.RefreshPuller;
import java.time.Duration;

/**
 * What runs as long as Gerrit serves: first the greeting, then everything that works beside the
 * requests.
 */
final class Bridge implements LifecycleListener {
  /** A sidecar that starts replays its journal first. */
  private static final Duration GREETING = Duration.ofMinutes(2);

  private final Hello hello;
  private final Deletions deletions;
  private final RefreshPuller refresh;
  private final EventOutbox outbox;
  private final EventInbox inbox;
  private final LateEvents late;

  @Inject
  Bridge(
      Hello hello,
      Deletions deletions,
      RefreshPuller refresh,
      EventOutbox outbox,
      EventInbox inbox,
      LateEvents late) {
    this.hello = hello;
    this.deletions = deletions;
    this.refresh = refresh;
    this.outbox = outbox;
    this.inbox = inbox;
    this.late = late;
  }

  @Override
  public void start() {
    hello.say(GREETING);
    deletions.start();
    refresh.start();
    outbox.start();
    inbox.start();
    late.start();
  }

  @Override
  public void stop() {
    late.stop();
    inbox.stop();
    outbox.stop();
    refresh.stop();
    deletions.stop();
  }
}
