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

package io.lockstep.bridge.indoubt;

import com.google.gerrit.common.Nullable;
import com.google.gerrit.entities.Account;
import com.google.gerrit.entities.Change;
import com.google.gerrit.entities.Project;
import com.google.gerrit.server.account.AccountCache;
import com.google.gerrit.server.account.AccountState;
import com.google.gerrit.server.account.Emails;
import com.google.gerrit.server.extensions.events.GitReferenceUpdated;
import com.google.gerrit.server.git.GitRepositoryManager;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.ServerRequestContext;
import io.lockstep.bridge.refresh.RefreshTarget;
import io.lockstep.bridge.refresh.Refresher;
import io.lockstep.bridge.sidecar.RefCommand;
import java.io.IOException;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.eclipse.jgit.lib.BatchRefUpdate;
import org.eclipse.jgit.lib.Repository;
import org.eclipse.jgit.revwalk.RevWalk;
import org.eclipse.jgit.transport.ReceiveCommand;

/** Indexes and fires through Gerrit's classes, in Gerrit's order: refs first, then changes. */
@Singleton
final class GerritPostUpdateActions implements PostUpdateActions {
  /** How Gerrit writes an account without an address into the reflog. */
  private static final Pattern NUMBERED = Pattern.compile("\\|account-(\\d+)@[^>]*>$");

  private static final Pattern ADDRESS = Pattern.compile("<([^<>]*)>$");

  private final ServerRequestContext server;
  private final Refresher refresher;
  private final GitRepositoryManager repositories;
  private final AccountCache accounts;
  private final Emails emails;
  private final GitReferenceUpdated refs;
  private final ChangeEvents changes;

  @Inject
  GerritPostUpdateActions(
      ServerRequestContext server,
      Refresher refresher,
      GitRepositoryManager repositories,
      AccountCache accounts,
      Emails emails,
      GitReferenceUpdated refs,
      ChangeEvents changes) {
    this.server = server;
    this.refresher = refresher;
    this.repositories = repositories;
    this.accounts = accounts;
    this.emails = emails;
    this.refs = refs;
    this.changes = changes;
  }

  @Override
  public void index(String project, List<RefCommand> committed) throws Exception {
    Project.NameKey name = Project.nameKey(project);
    List<Change.Id> touched =
        committed.stream()
            .map(command -> Change.Id.fromRef(command.ref()))
            .filter(Objects::nonNull)
            .distinct()
            .toList();
    for (Change.Id change : touched) {
      refresher.refresh(new RefreshTarget.ChangeTarget(name, change), true);
    }
  }

  @Override
  public void fire(String project, List<RefCommand> committed, String actor) throws Exception {
    server.run(
        () -> {
          Project.NameKey name = Project.nameKey(project);
          try (Repository repository = repositories.openRepository(name);
              RevWalk walk = new RevWalk(repository)) {
            refs.fire(name, batch(repository, walk, committed), account(actor));
            for (RefCommand command : committed) {
              if (ChangeOutcomes.isOfNotes(command)) {
                changes.fire(name, command, committed, walk);
              }
            }
          }
        });
  }

  /** The batch as it is in Gerrit after its execution. */
  private static BatchRefUpdate batch(
      Repository repository, RevWalk walk, List<RefCommand> committed) throws IOException {
    BatchRefUpdate batch = repository.getRefDatabase().newBatchUpdate();
    for (RefCommand command : committed) {
      ReceiveCommand done = new ReceiveCommand(command.old(), command.next(), command.ref());
      done.updateType(walk);
      done.setResult(ReceiveCommand.Result.OK);
      batch.addCommand(done);
    }
    return batch;
  }

  /** The account of the actor; null if it was the server itself. */
  @Nullable
  private AccountState account(String actor) throws IOException {
    Matcher numbered = NUMBERED.matcher(actor);
    if (numbered.find()) {
      return Account.Id.tryParse(numbered.group(1)).flatMap(accounts::get).orElse(null);
    }
    Matcher address = ADDRESS.matcher(actor);
    Set<Account.Id> owners = address.find() ? emails.getAccountFor(address.group(1)) : Set.of();
    return owners.size() == 1 ? accounts.get(owners.iterator().next()).orElse(null) : null;
  }
}
