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

import com.google.gerrit.extensions.registration.DynamicSet;
import com.google.gerrit.lifecycle.LifecycleModule;
import com.google.gerrit.server.ExceptionHook;
import com.google.gerrit.server.events.EventListener;
import io.lockstep.bridge.events.EventOutbox;
import io.lockstep.bridge.indoubt.InDoubtModule;
import io.lockstep.bridge.refresh.RefreshModule;
import io.lockstep.bridge.standby.StandbyModule;
import org.eclipse.jgit.transport.PostReceiveHook;

/**
 * The module for {@code gerrit.installModule}, for a Gerrit that serves. The programs {@code init}
 * and {@code reindex} do not load it.
 */
public final class BridgeModule extends LifecycleModule {
  @Override
  protected void configure() {
    install(new RefreshModule());
    install(new InDoubtModule());
    install(new StandbyModule());
    listener().to(BridgeLifecycle.class);
    DynamicSet.bind(binder(), EventListener.class).to(EventOutbox.class);
    DynamicSet.bind(binder(), ExceptionHook.class).to(SidecarExceptionHook.class);
    DynamicSet.bind(binder(), PostReceiveHook.class).to(PushFailureMessage.class);
    DynamicSet.bind(binder(), PostReceiveHook.class).to(PushTransactionMessage.class);
    JGitCompatibility.bindDeletion(binder());
  }
}
