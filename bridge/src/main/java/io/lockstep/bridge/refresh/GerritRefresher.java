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

package io.lockstep.bridge.refresh;

import com.google.common.util.concurrent.Striped;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.ServerRequestContext;
import java.util.concurrent.locks.Lock;

/**
 * Refreshes this Gerrit. Each entity is refreshed by one thread at a time, so a later refresh sees
 * what an earlier one missed.
 */
@Singleton
final class GerritRefresher implements Refresher {
  private static final int STRIPES = 256;

  private final ServerRequestContext server;
  private final ProjectRefresh projects;
  private final ChangeRefresh changes;
  private final AccountRefresh accounts;
  private final GroupRefresh groups;
  private final Striped<Lock> locks = Striped.lock(STRIPES);

  @Inject
  GerritRefresher(
      ServerRequestContext server,
      ProjectRefresh projects,
      ChangeRefresh changes,
      AccountRefresh accounts,
      GroupRefresh groups) {
    this.server = server;
    this.projects = projects;
    this.changes = changes;
    this.accounts = accounts;
    this.groups = groups;
  }

  @Override
  public void refresh(RefreshTarget subject, boolean own) throws Exception {
    Lock lock = locks.get(key(subject));
    lock.lockInterruptibly();
    try {
      server.run(() -> execute(subject, own));
    } finally {
      lock.unlock();
    }
  }

  private void execute(RefreshTarget subject, boolean own) throws Exception {
    switch (subject) {
      case RefreshTarget.ProjectTarget it -> projects.project(it);
      case RefreshTarget.ConfigTarget it -> projects.config(it);
      case RefreshTarget.AllChangesTarget it -> changes.all(it.project());
      case RefreshTarget.ChangeTarget it -> changes.one(it.project(), it.change(), own);
      case RefreshTarget.BranchTarget it -> changes.branch(it.branch());
      case RefreshTarget.AccountTarget it -> accounts.account(it.account(), own);
      case RefreshTarget.GroupTarget it -> groups.group(it, own);
      case RefreshTarget.GroupNamesTarget it -> groups.names(it.span());
      case RefreshTarget.ExternalIdsTarget it -> accounts.externalIds(it.span(), own);
    }
  }

  /** The entity that is refreshed, without the values of its refs. */
  private static Object key(RefreshTarget subject) {
    return switch (subject) {
      case RefreshTarget.ProjectTarget it -> it.project();
      case RefreshTarget.ConfigTarget it -> it.project();
      case RefreshTarget.GroupTarget it -> it.group();
      case RefreshTarget.GroupNamesTarget it -> RefreshTarget.GroupNamesTarget.class;
      case RefreshTarget.ExternalIdsTarget it -> RefreshTarget.ExternalIdsTarget.class;
      case RefreshTarget.AllChangesTarget it -> it;
      case RefreshTarget.ChangeTarget it -> it;
      case RefreshTarget.BranchTarget it -> it;
      case RefreshTarget.AccountTarget it -> it;
    };
  }
}
