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

package io.lockstep.testplugin;

import com.google.gerrit.entities.Account;
import com.google.gerrit.entities.AccountGroup;
import com.google.gerrit.entities.Change;
import com.google.gerrit.entities.Project;
import com.google.gerrit.entities.RefNames;
import com.google.gerrit.extensions.restapi.Response;
import com.google.gerrit.extensions.restapi.RestReadView;
import com.google.gerrit.server.config.AllUsersName;
import com.google.gerrit.server.config.ConfigResource;
import com.google.gerrit.server.git.GitRepositoryManager;
import com.google.gerrit.server.index.StalenessCheckResult;
import com.google.gerrit.server.notedb.ChangeNotes;
import com.google.inject.Inject;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.eclipse.jgit.lib.Ref;
import org.eclipse.jgit.lib.Repository;

/** Lists every change, account and group whose document in the index differs from its refs. */
final class ListStale implements RestReadView<ConfigResource> {
  private final GitRepositoryManager repositories;
  private final AllUsersName allUsers;
  private final com.google.gerrit.server.index.change.StalenessChecker changes;
  private final com.google.gerrit.server.index.account.StalenessChecker accounts;
  private final com.google.gerrit.server.index.group.StalenessChecker groups;

  @Inject
  ListStale(
      GitRepositoryManager repositories,
      AllUsersName allUsers,
      com.google.gerrit.server.index.change.StalenessChecker changes,
      com.google.gerrit.server.index.account.StalenessChecker accounts,
      com.google.gerrit.server.index.group.StalenessChecker groups) {
    this.repositories = repositories;
    this.allUsers = allUsers;
    this.changes = changes;
    this.accounts = accounts;
    this.groups = groups;
  }

  @Override
  public Response<List<String>> apply(ConfigResource resource) throws IOException {
    List<String> stale = new ArrayList<>();
    for (Project.NameKey name : repositories.list()) {
      try (Repository repository = repositories.openRepository(name)) {
        for (Change.Id change : ChangeNotes.Factory.scanChangeIds(repository).keySet()) {
          add(stale, "change " + change + " of " + name, changes.check(change));
        }
      }
    }
    try (Repository users = repositories.openRepository(allUsers)) {
      for (Ref ref : users.getRefDatabase().getRefsByPrefix(RefNames.REFS_USERS)) {
        Account.Id account = Account.Id.fromRef(ref.getName());
        if (account != null && ref.getName().equals(RefNames.refsUsers(account))) {
          add(stale, "account " + account, accounts.check(account));
        }
      }
      for (Ref ref : users.getRefDatabase().getRefsByPrefix(RefNames.REFS_GROUPS)) {
        AccountGroup.UUID group = AccountGroup.UUID.fromRef(ref.getName());
        add(stale, "group " + group, groups.check(group));
      }
    }
    return Response.ok(stale);
  }

  private static void add(List<String> stale, String what, StalenessCheckResult result) {
    if (result.isStale()) {
      stale.add(what + ": " + result);
    }
  }
}
