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
import com.google.gerrit.entities.ChangeMessage;
import com.google.gerrit.entities.PatchSet;
import com.google.gerrit.entities.Project;
import com.google.gerrit.extensions.api.changes.NotifyHandling;
import com.google.gerrit.server.ChangeMessagesUtil;
import com.google.gerrit.server.account.AccountCache;
import com.google.gerrit.server.account.AccountState;
import com.google.gerrit.server.change.NotifyResolver;
import com.google.gerrit.server.extensions.events.ChangeAbandoned;
import com.google.gerrit.server.extensions.events.ChangeMerged;
import com.google.gerrit.server.extensions.events.ChangeRestored;
import com.google.gerrit.server.extensions.events.CommentAdded;
import com.google.gerrit.server.extensions.events.HashtagsEdited;
import com.google.gerrit.server.extensions.events.PrivateStateChanged;
import com.google.gerrit.server.extensions.events.ReviewerAdded;
import com.google.gerrit.server.extensions.events.RevisionCreated;
import com.google.gerrit.server.extensions.events.TopicEdited;
import com.google.gerrit.server.extensions.events.WorkInProgressStateChanged;
import com.google.gerrit.server.notedb.ChangeNotes;
import com.google.gerrit.server.notedb.NoteDbUtil;
import com.google.gerrit.server.query.change.ChangeData;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.sidecar.RefCommand;
import java.io.IOException;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.eclipse.jgit.revwalk.RevWalk;

/** Fires the events of a change, derived from its notes before and after one update. */
@Singleton
final class ChangeEvents {
  private final ChangeNotes.Factory notes;
  private final ChangeData.Factory changeData;
  private final NoteDbUtil idents;
  private final AccountCache accounts;
  private final Events events;

  /** Gerrit's classes that fire the events. */
  private record Events(
      RevisionCreated revisionCreated,
      ReviewerAdded reviewerAdded,
      CommentAdded commentAdded,
      TopicEdited topicEdited,
      HashtagsEdited hashtagsEdited,
      PrivateStateChanged privateStateChanged,
      WorkInProgressStateChanged workInProgressStateChanged,
      ChangeAbandoned changeAbandoned,
      ChangeRestored changeRestored,
      ChangeMerged changeMerged) {
    @Inject
    Events {}
  }

  @Inject
  ChangeEvents(
      ChangeNotes.Factory notes,
      ChangeData.Factory changeData,
      NoteDbUtil idents,
      AccountCache accounts,
      Events events) {
    this.notes = notes;
    this.changeData = changeData;
    this.idents = idents;
    this.accounts = accounts;
    this.events = events;
  }

  /** The change whose events are fired. */
  private record Subject(
      ChangeDelta step,
      ChangeData data,
      PatchSet patchSet,
      @Nullable AccountState actor,
      Instant when) {
    Change change() {
      return step.now().getChange();
    }
  }

  /**
   * Fires the events of one update of a change.
   *
   * @param meta the command on the change's notes
   * @param transaction all commands that were committed with it
   */
  void fire(Project.NameKey project, RefCommand meta, List<RefCommand> transaction, RevWalk walk)
      throws IOException {
    Change.Id id = Change.Id.fromRef(meta.ref());
    ChangeNotes now = notes.createChecked(project, id, meta.next());
    Optional<ChangeNotes> before =
        meta.isCreation()
            ? Optional.empty()
            : Optional.of(notes.createChecked(project, id, meta.old()));
    ChangeDelta step = new ChangeDelta(before, now);
    Optional<Account.Id> actor = idents.parseIdent(walk.parseCommit(meta.next()).getAuthorIdent());
    Subject subject =
        new Subject(
            step,
            changeData.create(now),
            now.getCurrentPatchSet(),
            actor.map(accounts::getEvenIfMissing).orElse(null),
            now.getChange().getLastUpdatedOn());
    // Gerrit fires no event for the patch set that a rewriting submission adds.
    if (!step.became(Change::isMerged)) {
      step.newPatchSets().forEach(patchSet -> patchSet(subject, patchSet));
    }
    reviewers(subject, step.newReviewers(actor));
    properties(subject);
    step.newComments().forEach(message -> comment(subject, message));
    status(subject, transaction);
  }

  private void patchSet(Subject subject, PatchSet patchSet) {
    AccountState uploader = accounts.getEvenIfMissing(patchSet.uploader());
    events
        .revisionCreated()
        .fire(
            subject.data(), patchSet, uploader, patchSet.createdOn(), NotifyResolver.Result.all());
    if (subject.step().hasVotesOfItsOwn(patchSet)) {
      comment(subject, patchSet, patchSet.uploader(), null, patchSet.createdOn());
    }
  }

  private void reviewers(Subject subject, Set<Account.Id> added) {
    if (!added.isEmpty()) {
      List<AccountState> reviewers = added.stream().map(accounts::getEvenIfMissing).toList();
      events
          .reviewerAdded()
          .fire(subject.data(), subject.patchSet(), reviewers, subject.actor(), subject.when());
    }
  }

  private void properties(Subject subject) {
    ChangeDelta step = subject.step();
    if (step.changed(it -> Optional.ofNullable(it.getChange().getTopic()))) {
      String before = step.before().map(it -> it.getChange().getTopic()).orElse("");
      events.topicEdited().fire(subject.data(), subject.actor(), before, subject.when());
    }
    if (step.changed(ChangeNotes::getHashtags)) {
      events
          .hashtagsEdited()
          .fire(
              subject.data(),
              subject.actor(),
              step.hashtags(),
              step.addedHashtags(),
              step.removedHashtags(),
              subject.when());
    }
    if (step.changed(it -> it.getChange().isPrivate())) {
      events
          .privateStateChanged()
          .fire(subject.data(), subject.patchSet(), subject.actor(), subject.when());
    }
    if (step.changed(it -> it.getChange().isWorkInProgress())) {
      events
          .workInProgressStateChanged()
          .fire(subject.data(), subject.patchSet(), subject.actor(), subject.when());
    }
  }

  private void comment(Subject subject, ChangeMessage message) {
    PatchSet patchSet =
        subject
            .step()
            .now()
            .getPatchSets()
            .getOrDefault(message.getPatchSetId(), subject.patchSet());
    if (message.getAuthor() != null) {
      comment(subject, patchSet, message.getAuthor(), message.getMessage(), message.getWrittenOn());
    }
  }

  private void comment(
      Subject subject, PatchSet patchSet, Account.Id author, @Nullable String text, Instant when) {
    ChangeDelta step = subject.step();
    Map<String, Short> votes = step.votes(patchSet.id(), author, subject.data().getLabelTypes());
    Map<String, Short> former = step.formerVotes(patchSet.id(), author, votes);
    AccountState who = accounts.getEvenIfMissing(author);
    events.commentAdded().fire(subject.data(), patchSet, who, text, votes, former, when);
  }

  private void status(Subject subject, List<RefCommand> transaction) {
    ChangeDelta step = subject.step();
    ChangeData data = subject.data();
    if (step.became(Change::isAbandoned)) {
      String reason = step.reason(ChangeMessagesUtil.TAG_ABANDON);
      events
          .changeAbandoned()
          .fire(
              data,
              subject.patchSet(),
              subject.actor(),
              reason,
              subject.when(),
              NotifyHandling.ALL);
    }
    if (step.became(Change::isNew)) {
      String reason = step.reason(ChangeMessagesUtil.TAG_RESTORE);
      events
          .changeRestored()
          .fire(data, subject.patchSet(), subject.actor(), reason, subject.when());
    }
    if (step.became(Change::isMerged)) {
      events
          .changeMerged()
          .fire(
              data, subject.patchSet(), subject.actor(), tip(subject, transaction), subject.when());
    }
  }

  /** The value of the branch after the update. */
  private static String tip(Subject subject, List<RefCommand> transaction) {
    String branch = subject.change().getDest().branch();
    return transaction.stream()
        .filter(command -> command.ref().equals(branch))
        .map(command -> command.next().name())
        .findFirst()
        .orElse(subject.patchSet().commitId().name());
  }
}
