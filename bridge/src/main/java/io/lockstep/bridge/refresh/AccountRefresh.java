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

import com.google.common.cache.Cache;
import com.google.gerrit.entities.Account;
import com.google.gerrit.extensions.registration.DynamicMap;
import com.google.gerrit.extensions.registration.PluginName;
import com.google.gerrit.server.account.externalids.ExternalId;
import com.google.gerrit.server.account.externalids.ExternalIds;
import com.google.gerrit.server.config.AllUsersName;
import com.google.gerrit.server.config.GerritServerConfig;
import com.google.gerrit.server.git.GitRepositoryManager;
import com.google.gerrit.server.index.account.AccountIndexer;
import com.google.gerrit.server.ssh.SshKeyCache;
import com.google.gerrit.server.util.ReplicaUtil;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import java.io.IOException;
import java.util.HashSet;
import java.util.Locale;
import java.util.Set;
import org.eclipse.jgit.lib.Config;
import org.eclipse.jgit.lib.Repository;

/**
 * Refreshes the index of accounts, and the caches of their keys and tokens. The caches of accounts
 * and of external ids check the refs themselves.
 */
@Singleton
final class AccountRefresh {
  /**
   * The cache of HTTP passwords, since Gerrit 3.13. Earlier releases store them as external ids.
   */
  private static final String TOKENS = "tokens";

  private static final String NOTE = "externalId";
  private static final String USERNAME = ExternalId.SCHEME_USERNAME + ":";

  private final GitRepositoryManager repositories;
  private final AllUsersName allUsers;
  private final AccountIndexer indexer;
  private final ExternalIds externalIds;
  private final SshKeyCache sshKeys;
  private final DynamicMap<Cache<?, ?>> caches;
  private final boolean hasIndex;

  @Inject
  AccountRefresh(
      GitRepositoryManager repositories,
      AllUsersName allUsers,
      AccountIndexer indexer,
      ExternalIds externalIds,
      SshKeyCache sshKeys,
      DynamicMap<Cache<?, ?>> caches,
      @GerritServerConfig Config config) {
    this.repositories = repositories;
    this.allUsers = allUsers;
    this.indexer = indexer;
    this.externalIds = externalIds;
    this.sshKeys = sshKeys;
    this.caches = caches;
    this.hasIndex = !ReplicaUtil.isReplica(config);
  }

  /** Refreshes what is stored in {@code refs/users/} of an account: settings, keys, tokens. */
  void account(Account.Id account, boolean own) throws IOException {
    Cache<?, ?> tokens = caches.get(PluginName.GERRIT, TOKENS);
    if (tokens != null) {
      tokens.invalidate(account);
    }
    for (ExternalId id : externalIds.byAccount(account, ExternalId.SCHEME_USERNAME)) {
      evictSshKeys(id.key().id());
    }
    index(account, own);
  }

  /**
   * Refreshes the accounts whose external ids changed: user names, addresses, identities elsewhere.
   */
  void externalIds(RefreshTarget.Span span, boolean own) throws IOException {
    Set<Account.Id> accounts = new HashSet<>();
    try (Repository repository = repositories.openRepository(allUsers)) {
      for (Config note : ChangedNotes.between(repository, span)) {
        for (String key : note.getSubsections(NOTE)) {
          if (key.startsWith(USERNAME)) {
            evictSshKeys(key.substring(USERNAME.length()));
          }
          accounts.add(Account.id(note.getInt(NOTE, key, "accountId", 0)));
        }
      }
    }
    for (Account.Id account : accounts) {
      index(account, own);
    }
  }

  private void index(Account.Id account, boolean own) {
    if (!hasIndex) {
      return;
    }
    if (own) {
      indexer.reindexIfStale(account);
    } else {
      indexer.index(account);
    }
  }

  /** User names may be looked up case-insensitively. */
  private void evictSshKeys(String username) {
    sshKeys.evict(username);
    sshKeys.evict(username.toLowerCase(Locale.US));
  }
}
