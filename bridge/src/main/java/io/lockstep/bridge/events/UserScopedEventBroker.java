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

package io.lockstep.bridge.events;

import com.google.gerrit.common.Nullable;
import com.google.gerrit.entities.Change;
import com.google.gerrit.server.config.GerritInstanceId;
import com.google.gerrit.server.events.ChangeEvent;
import com.google.gerrit.server.events.Event;
import com.google.gerrit.server.events.EventBroker;
import com.google.gerrit.server.events.EventListener;
import com.google.gerrit.server.events.ProjectEvent;
import com.google.gerrit.server.events.RefEvent;
import com.google.gerrit.server.events.UserScopedEventListener;
import com.google.gerrit.server.notedb.ChangeNotes;
import com.google.gerrit.server.permissions.PermissionBackend;
import com.google.gerrit.server.permissions.PermissionBackendException;
import com.google.gerrit.server.plugincontext.PluginSetContext;
import com.google.gerrit.server.project.ProjectCache;
import com.google.inject.Inject;
import com.google.inject.Singleton;

/**
 * Fires events of other sites to the listeners that act for a user, such as {@code stream-events},
 * as far as that user may see them. The other listeners (webhooks, issue trackers) have acted at
 * the origin, and must not act twice.
 */
@Singleton
class UserScopedEventBroker extends EventBroker {
  @Inject
  UserScopedEventBroker(
      PluginSetContext<UserScopedEventListener> listeners,
      PluginSetContext<EventListener> unrestrictedListeners,
      PermissionBackend permissions,
      ProjectCache projects,
      ChangeNotes.Factory notes,
      @Nullable @GerritInstanceId String instanceId) {
    super(listeners, unrestrictedListeners, permissions, projects, notes, instanceId);
  }

  /**
   * Fires an event like Gerrit does at the origin: the visibility of a change event depends on the
   * change, not only on its branch.
   */
  void fire(Event event) throws PermissionBackendException {
    switch (event) {
      case ChangeEvent it -> {
        Change.Id change = Change.id(it.change.get().number);
        fireEvent(notesFactory.createChecked(it.getProjectNameKey(), change).getChange(), it);
      }
      case RefEvent it -> fireEvent(it.getBranchNameKey(), it);
      case ProjectEvent it -> fireEvent(it.getProjectNameKey(), it);
      default -> fireEvent(event);
    }
  }

  @Override
  protected void fireEventForUnrestrictedListeners(Event event) {}
}
